"""Classifiers of cases and sequences, calibration, clinical rules and respiratory signals."""
