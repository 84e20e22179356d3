"""The model's directory: where it comes from, what its files say, and the texts it reads."""
