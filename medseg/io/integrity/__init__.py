"""Is a file whole? Checks that stream and never decode a bomb."""
