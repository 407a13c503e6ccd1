"""Integrity checks of image files: streamed, and safe against decompression bombs."""
