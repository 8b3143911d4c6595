"""What every command stands on: flags, refusals, notices, signals and processes."""
