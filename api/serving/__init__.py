"""Releases: how they are loaded, and which URL prefix means which."""
