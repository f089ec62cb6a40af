"""Analysis of trained models: what the attention heads learned, and what layers cost."""
