"""Latents of images: encoding them, storing them in shards, reading them."""
