"""Console, devices, files, locks."""
