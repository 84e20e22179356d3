"""One request for premises, from what is asked to the ranked answer."""
