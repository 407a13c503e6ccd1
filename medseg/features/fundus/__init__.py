"""Landmarks and lesions of the retina."""
