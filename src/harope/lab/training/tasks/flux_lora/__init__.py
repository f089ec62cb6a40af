"""Fine-tuning FLUX.1 by LoRA beside an encoding."""
