"""Metrics and confidence intervals: arrays in, numbers out."""
