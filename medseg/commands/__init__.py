"""One module for each command that does work."""
