"""Training tasks: each combines a model, its training data and its loss."""
