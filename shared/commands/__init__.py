"""`premise-server`: the commands, and running everything on one machine."""
