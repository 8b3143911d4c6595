"""What somebody's data are, and a configuration that fits them."""
