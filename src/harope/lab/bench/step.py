"""A training step and a forward pass of DiT-S/2 with different encodings."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from harope.lab.bench.reference import NaiveHARoPE
from harope.lab.bench.timing import Work
from harope.models.dit import DiT, fold
from harope.rope import PositionalEncoding, RotaryEncoding, parameter_groups
from harope.rope.basis import GeneratorBasis

# Spectral norm of the skew generators: that of the released model, after training.
GENERATOR_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Which model, on how much."""

    size: str = "DiT-S/2"
    """Model of the family."""
    batch: int = 8
    """Images of a step."""
    side: int = 32
    """Height and width of the latents: 16 x 16 tokens with patch 2."""
    device: str = "cpu"
    """Where it runs."""
    autocast: bool = False
    """bfloat16 products."""
    compile: bool = False
    """Through torch.compile."""


def make_model(encoding: str, config: StepConfig) -> DiT:
    """A model whose weights outside the encodings are the same for every encoding.

    `naive` is HARoPE as it is written today.
    """
    torch.manual_seed(0)
    model = DiT(config.size, encoding="axial" if encoding == "naive" else encoding)
    for block in model.layers:
        own = block.attn.harope
        if encoding == "naive":
            block.attn.harope = NaiveHARoPE(num_heads=own.num_heads, head_dim=own.head_dim)
        _turn(block.attn.harope)
        # Gates of zero would let gradients skip the layers.
        torch.nn.init.normal_(cast("Tensor", block.adaLN_modulation[1].weight), std=0.02)
    return model.to(config.device)


def training_step(encoding: str, config: StepConfig) -> Work:
    """Forward, mean squared error, backward and AdamW."""
    model = make_model(encoding, config).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
    run = torch.compile(model) if config.compile else model
    x, t, y = inputs(config)
    kept = torch.zeros(config.batch, dtype=torch.bool, device=config.device)

    def step() -> None:
        with _autocast(config):
            loss = run(x, t, y, kept)[:, :4].float().sub(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def forward_pass(encoding: str, config: StepConfig) -> Work:
    """One evaluation in inference mode, folded where there is something to fold."""
    model = fold(make_model(encoding, config).eval())
    run: Callable[..., Tensor] = torch.compile(model) if config.compile else model
    arguments = inputs(config)

    def forward() -> None:
        with torch.inference_mode(), _autocast(config):
            run(*arguments)

    return forward


def inputs(config: StepConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, times and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(config.batch, 4, config.side, config.side, generator=generator)
    t = 1000 * torch.rand(config.batch, generator=generator)
    y = torch.arange(config.batch)
    return x.to(config.device), t.to(config.device), y.to(config.device)


@torch.no_grad()
def _turn(encoding: PositionalEncoding) -> None:
    """Generators as large as training makes them: exponentials of small ones cost less."""
    # A skew matrix of normal entries has the norm 2 std sqrt(dim).
    std = GENERATOR_NORM / (2 * encoding.head_dim**0.5)
    if isinstance(encoding, NaiveHARoPE):
        for full in (encoding.a_u, encoding.a_v):
            nn.init.normal_(full, std=std * 2**0.5)
    elif isinstance(encoding, RotaryEncoding) and isinstance(encoding.basis, GeneratorBasis):
        for name, parameter in encoding.basis.named_parameters():
            if name.startswith("skew"):
                nn.init.normal_(parameter, std=std)


def _autocast(config: StepConfig) -> AbstractContextManager[object]:
    if not config.autocast:
        return nullcontext()
    return torch.autocast(config.device, torch.bfloat16)
