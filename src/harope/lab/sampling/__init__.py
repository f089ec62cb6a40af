"""Generating folders of images, on one or many processes, resumable after each image."""
