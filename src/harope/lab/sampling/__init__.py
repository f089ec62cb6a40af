"""Folders of samples, drawn by one process or many, resumable picture by picture."""
