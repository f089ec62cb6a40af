"""Faster forms of the formulas in `harope.rope`, with the same signatures."""
