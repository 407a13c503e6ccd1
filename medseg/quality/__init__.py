"""Image quality checks and out-of-distribution detection."""
