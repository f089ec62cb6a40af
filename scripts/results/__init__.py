"""Scripts that produce the pages of docs/results."""
