"""From biomedical images to a segmentation and on to a diagnosis. Research use only."""

__version__ = "0.1.0"
