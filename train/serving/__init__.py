"""A finished run behind HTTP: requests read, answered together, and refused."""
