"""Datasets of images with class labels: folders, IDX files, digits and built-in scenes."""
