"""Put HARoPE into a vision transformer of timm, train it a little, keep the encoding as a file."""

import sys

import timm
import torch

import harope

name = sys.argv[1] if len(sys.argv) > 1 else "vit_base_patch16_224"
model = timm.create_model(name, num_classes=10, dynamic_img_size=True)
harope.install(model, "harope", keep_absolute=False)  # in place of the model's own embedding

groups = harope.parameter_groups(model, weight_decay=0.05)  # encodings take no decay
optimizer = torch.optim.AdamW(groups, lr=5e-4)
images, labels = torch.randn(8, 3, 224, 224), torch.randint(10, (8,))
for _ in range(2):
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print("loss", loss.item(), "encoding in", harope.save_encoding(model, "vit-harope"))
harope.set_scaling(model, "ntk", sizes=(20, 20), train_sizes=(14, 14))
print("at 320 pixels", tuple(model.eval()(torch.randn(1, 3, 320, 320)).shape))
