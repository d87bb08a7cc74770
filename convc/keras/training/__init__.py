"""A training step as one graph: what losses, metrics and optimizers emit, and how they are put together."""
