"""Latents of images: encoding them, storing them in shards, and reading them."""
