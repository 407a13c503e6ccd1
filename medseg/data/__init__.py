"""Cases, images and what feeds a network."""
