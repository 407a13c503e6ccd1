"""Asymmetry, border, colours and structures of skin lesions."""
