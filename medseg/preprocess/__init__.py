"""Images made comparable: axes, grid, intensity. Every step takes and returns a SimpleITK image."""
