"""Images made from label maps: random contrast, shape, resolution and scanner (Billot et al. 2023)."""
