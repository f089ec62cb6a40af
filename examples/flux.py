"""Put HARoPE into FLUX: the same images before any training, and heads that can learn planes."""

import sys

import torch
from diffusers import FluxPipeline

import harope

path = sys.argv[1] if len(sys.argv) > 1 else "black-forest-labs/FLUX.1-dev"
size = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
pipeline = FluxPipeline.from_pretrained(path)
draw = {"prompt": "a red cube on a blue ball", "height": size, "width": size}
draw |= {"num_inference_steps": 4, "max_sequence_length": 64, "output_type": "pt"}

before = pipeline(**draw, generator=torch.Generator().manual_seed(0)).images
harope.install(pipeline.transformer, "harope")  # between QK-norm and FLUX's own rotation
after = pipeline(**draw, generator=torch.Generator().manual_seed(0)).images
new = sum(p.numel() for n, p in pipeline.transformer.named_parameters() if ".harope." in n)
print(f"{new:,} new parameters, images differ by {(after - before).abs().max().item():.0e}")
harope.remove(pipeline.transformer)
