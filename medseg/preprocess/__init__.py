"""Preprocessing steps: axes, grid, intensity. Every step takes and returns a SimpleITK image."""
