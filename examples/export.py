"""Fold HARoPE into a vision transformer and export it: in ONNX it is a plain RoPE model."""

import sys

import onnxruntime
import timm
import torch

import harope

name = sys.argv[1] if len(sys.argv) > 1 else "vit_base_patch16_224"
model = timm.create_model(name, num_classes=10).eval()
harope.install(model, "harope")
for parameter in harope.encoding_parameters(model):  # as if it had been trained
    torch.nn.init.normal_(parameter, std=0.1)

images = torch.randn(1, 3, 224, 224)
before = model(images)
harope.fold(model)  # no matrices any more, only the rotation
torch.onnx.export(model, (images,), "vit.onnx", dynamo=True, verbose=False)
session = onnxruntime.InferenceSession("vit.onnx")
(after,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
print(f"differ by {(torch.from_numpy(after) - before).abs().max().item():.0e}")
