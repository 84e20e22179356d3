"""Metrics and timings. It knows nothing of requests."""
