"""Workloads of a DiT with different encodings: training step and forward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from harope.lab.bench.plain_dit import PlainDiT
from harope.lab.bench.reference import NaiveHARoPE
from harope.lab.bench.timing import Workload
from harope.models.dit import DiT, fold
from harope.models.dit.config import dit_config
from harope.rope import PositionalEncoding, RotaryEncoding, parameter_groups
from harope.rope.basis import GeneratorBasis

GENERATOR_NORM = 1.0
"""Spectral norm of the skew-symmetric generators, about that of the released model."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Size of the model and of its input."""

    size: str = "DiT-S/2"
    """Name of the DiT's size."""
    batch: int = 8
    """Batch size."""
    side: int = 32
    """Height and width of the latents; 32 gives 16 x 16 tokens with patch size 2."""
    device: str = "cpu"
    """Device of the model."""
    autocast: bool = False
    """Whether to use autocast to bfloat16."""
    compile: bool = False
    """Whether to compile the model by `torch.compile`."""


PLAIN = "plain DiT"
"""Name of the model of `harope.lab.bench.plain_dit` among the encodings."""


def make_model(encoding: str, config: StepConfig) -> DiT:
    """Create a model whose weights outside the encoding do not depend on the encoding.

    Args:
        encoding: Name of a preset, or `naive` for `NaiveHARoPE`.
        config: Size of the model.

    Returns:
        Model on the configured device, in training mode.
    """
    torch.manual_seed(0)
    model = DiT(config.size, encoding="axial" if encoding == "naive" else encoding)
    for block in model.layers:
        original = block.attn.harope
        if encoding == "naive":
            block.attn.harope = NaiveHARoPE(
                num_heads=original.num_heads, head_dim=original.head_dim
            )
        _init_generators(block.attn.harope)
        # With the zero gates of the initialisation, no gradient would reach the layers.
        torch.nn.init.normal_(cast("Tensor", block.adaLN_modulation[1].weight), std=0.02)
    return model.to(config.device)


def make_plain_model(config: StepConfig) -> PlainDiT:
    """Create a model in the plain formulation, with the weights of `make_model` without encoding.

    Args:
        config: Size of the model and of its input.

    Returns:
        Model on the configured device, in training mode.
    """
    model = PlainDiT(dit_config(config.size), config.side)
    model.load_state_dict(make_model("none", config).state_dict())
    return model.to(config.device)


def training_step(encoding: str, config: StepConfig) -> Workload:
    """Return a training step: forward pass, mean squared error, backward pass and AdamW.

    Args:
        encoding: Name of the encoding, see `make_model`, or `PLAIN`.
        config: Size of the model and of its input.

    Returns:
        Function that carries out one step.
    """
    plain = encoding == PLAIN
    model = (make_plain_model(config) if plain else make_model(encoding, config)).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
    run = torch.compile(model) if config.compile else model
    x, t, y = inputs(config)
    dropped = torch.zeros(config.batch, dtype=torch.bool, device=config.device)

    def step() -> None:
        with _autocast(config):
            loss = run(x, t, y, drop_labels=dropped)[:, :4].float().sub(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def forward_pass(encoding: str, config: StepConfig) -> Workload:
    """Return a forward pass in inference mode, with the basis folded into the projections.

    Args:
        encoding: Name of the encoding, see `make_model`.
        config: Size of the model and of its input.

    Returns:
        Function that carries out one pass.
    """
    model = fold(make_model(encoding, config).eval())
    run: Callable[..., Tensor] = torch.compile(model) if config.compile else model
    arguments = inputs(config)

    def forward() -> None:
        with torch.inference_mode(), _autocast(config):
            run(*arguments)

    return forward


def inputs(config: StepConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Create latents, timesteps and class labels.

    Args:
        config: Size of the input.

    Returns:
        Latents (batch, 4, side, side), timesteps in [0, 1000) and labels, (batch,), on the
        configured device.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(config.batch, 4, config.side, config.side, generator=generator)
    t = 1000 * torch.rand(config.batch, generator=generator)
    y = torch.arange(config.batch)
    return x.to(config.device), t.to(config.device), y.to(config.device)


@torch.no_grad()
def _init_generators(encoding: PositionalEncoding) -> None:
    """Initialise generators with a norm as after training: exponentials of small ones cost less."""
    # A skew-symmetric matrix of normal entries has a spectral norm of about 2 std sqrt(dim).
    std = GENERATOR_NORM / (2 * encoding.head_dim**0.5)
    if isinstance(encoding, NaiveHARoPE):
        for matrix in (encoding.a_u, encoding.a_v):
            nn.init.normal_(matrix, std=std * 2**0.5)
    elif isinstance(encoding, RotaryEncoding) and isinstance(encoding.basis, GeneratorBasis):
        for name, parameter in encoding.basis.named_parameters():
            if name.startswith("skew"):
                nn.init.normal_(parameter, std=std)


def _autocast(config: StepConfig) -> AbstractContextManager[object]:
    if not config.autocast:
        return nullcontext()
    return torch.autocast(config.device, torch.bfloat16)
