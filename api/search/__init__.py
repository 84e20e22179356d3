"""Exact search over subsets of rows. It knows nothing of requests."""
