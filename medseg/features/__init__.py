"""Measures of images, masks and sequences of frames, as named numbers with a unit."""
