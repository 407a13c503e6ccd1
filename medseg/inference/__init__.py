"""A trained model with everything around it."""
