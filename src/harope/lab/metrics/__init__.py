"""Scores of generated pictures, and their uncertainty."""
