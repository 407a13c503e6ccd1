"""A run folder is a model; its archive is a package."""
