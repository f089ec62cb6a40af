"""Metrics of image sets and classifiers, with their confidence intervals."""
