"""Air, diaphragm and motion of the lungs in a sequence."""
