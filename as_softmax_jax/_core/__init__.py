"""What the topics share: refusals, inputs, and the numerics of one home each."""
