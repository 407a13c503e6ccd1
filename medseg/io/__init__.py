"""Image files to SimpleITK images and back; geometry, integrity, labels."""
