"""Segmentation without training: Otsu, Gaussian mixture, superpixels, watershed."""
