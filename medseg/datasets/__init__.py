"""Readers of public datasets and their raw layouts."""
