"""From an image to a label map."""
