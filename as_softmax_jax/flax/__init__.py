"""Modules that own an output layer's parameters: `nnx` and `linen`, one file each."""
