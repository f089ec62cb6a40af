"""Encodings set side by side: the same data, noise and weights, several seeds, and controls."""
