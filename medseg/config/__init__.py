"""Compose, check and build settings; the only user of hydra and omegaconf."""
