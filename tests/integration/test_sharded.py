"""Sharded parameters: matrices and tables are made inside the layers, where they are whole."""

import os
import subprocess
import sys

SHARDED = """
import copy
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from harope import DiT, DiTConfig

dist.init_process_group("gloo")
size = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5)
for encoding in ("harope", "mixed"):
    torch.manual_seed(0)
    model = DiT(size, encoding=encoding)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    plain = copy.deepcopy(model)
    for block in model.layers:
        fully_shard(block)
    fully_shard(model)
    inputs = torch.randn(2, 4, 8, 8), 1000 * torch.rand(2), torch.arange(2)
    kept = torch.zeros(2, dtype=torch.bool)
    for run in (model, plain):
        run(*inputs, drop_labels=kept).square().mean().backward()
    for (name, ours), expected in zip(model.named_parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad.full_tensor(), expected.grad, rtol=1e-4, atol=1e-5)
print("same")
dist.destroy_process_group()
"""


def test_gradients_under_fully_shard_are_those_of_the_plain_model(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "2", str(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("same") == 2
