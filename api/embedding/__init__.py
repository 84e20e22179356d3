"""Embeddings of texts, from the near cache, Redis or the workers."""
