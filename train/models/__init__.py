"""Networks in Flax NNX, each `Model(config, spec, rngs=)`: inputs to features."""
