"""Paired comparisons of encodings: same data, noise and initial weights; seeds and controls."""
