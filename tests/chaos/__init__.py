"""Faults injected into a whole running system under load, and whether every promise about them was kept."""
