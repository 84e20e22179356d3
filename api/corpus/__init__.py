"""The data: read, filtered, numbered, and built into files that every process maps."""
