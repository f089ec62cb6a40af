"""Encodings in the transformers of diffusers: DiT, SD3 and FLUX.1."""
