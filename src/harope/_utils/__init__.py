"""Shared helpers that know nothing of models: each exists once."""
