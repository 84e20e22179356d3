"""What the API and the workers agree on: settings, keys, messages, files. Imports neither of them."""
