"""Encodings in models of others: install, remove, fold, save, load."""
