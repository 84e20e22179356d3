"""`premise-server cache`: looking into the embedding cache, filling it, removing a model from it."""
