"""LoRA fine-tuning of FLUX.1 together with a positional encoding."""
