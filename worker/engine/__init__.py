"""From texts to vectors: tokenizer, packing and the model on one device."""
