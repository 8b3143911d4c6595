"""A run's folder: its lock, its checkpoints, its log, and a finished run read back."""
