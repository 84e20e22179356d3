"""Redis as both roles use it: keys, connections, scripts, messages."""
