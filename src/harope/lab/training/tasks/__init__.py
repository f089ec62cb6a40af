"""Tasks: a model, the data it learns from, and the loss."""
