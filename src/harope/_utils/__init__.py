"""Helpers that know nothing of models or experiments: each exists once, here."""
