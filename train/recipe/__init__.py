"""What a compiled step depends on: network, objective, optimizer and mesh."""
