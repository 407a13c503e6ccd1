"""Synthetic cases with known answers, one file an organ. The only modules besides `sources/` that may name an organ."""
