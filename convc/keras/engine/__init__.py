"""The machinery below the layers: traced tensors, names and scopes, layers, models, summaries."""
