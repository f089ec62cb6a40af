"""Train HARoPE next to LoRA in FLUX; share it as two files that any runtime can read."""

import sys

import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig

import harope
from harope.integrations import load_adapters, save_adapters

path = sys.argv[1] if len(sys.argv) > 1 else "black-forest-labs/FLUX.1-dev"
model = FluxTransformer2DModel.from_pretrained(path, subfolder="transformer")
harope.install(model, "harope")
targets = ["to_q", "to_k", "to_v", "to_out.0"]
model.add_adapter(LoraConfig(r=32, target_modules=targets, modules_to_save=["harope"]))
model.enable_gradient_checkpointing()

trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(harope.parameter_groups(model, weight_decay=0.01), lr=2e-5)
print(f"training {sum(p.numel() for p in trained):,} parameters")  # your loop here

print(*sorted(file.name for file in save_adapters(model, "tuned").iterdir()))
again = FluxTransformer2DModel.from_pretrained(path, subfolder="transformer")
load_adapters(again, "tuned")  # installs the encoding, then reads LoRA
