"""Optimizers: AdamW for all parameters, or Muon for the weight matrices of the blocks.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalises the momentum of a weight
matrix. Its updates are scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv
2502.16982), so that both use the same learning rate and weight decay.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harope.integrations.registry import find_integration
from harope.rope import encoding_parameters


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW or Muon: a linear warm-up, a constant rate, and a decay to 0 where it is asked for."""

    name: Literal["adamw", "muon"] = "adamw"
    """What updates the weight matrices of the blocks: AdamW, which is usual, or Muon with Nesterov
    momentum 0.95 (torch 2.9 or later). All other parameters, encodings included, are AdamW's in
    both cases. Muon's updates are scaled to the size of AdamW's, so that one `lr` serves both. It
    includes the projections of queries and keys: where they are packed with that of the values, the
    three are orthogonalised as one (3 width, width) matrix."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's moments."""
    weight_decay: float = 0.0
    """Decoupled decay; encodings, biases and norms are exempt."""
    warmup_steps: int = 0
    """Steps of the linear warm-up."""
    warmup_lr: float = 0.0
    """Rate that the warm-up starts from."""
    decay: float = 0.0
    """Share of the training, at its end, over which the rate falls to 0."""
    decay_shape: Literal["linear", "cosine"] = "linear"
    """How it falls: by a line, or by half a wave of the cosine."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None for no clipping."""
    qk_lr_multiplier: float = 1.0
    """Factor on the learning rate of the query and key projections; 1 is usual."""

    def __post_init__(self) -> None:
        for name in ("weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must not be negative")
        if self.lr <= 0 or not 0 <= self.decay <= 1:
            raise ValueError(f"lr {self.lr} must be positive and decay {self.decay} in [0, 1]")
        if self.qk_lr_multiplier <= 0:
            raise ValueError(
                f"qk_lr_multiplier {self.qk_lr_multiplier} must be positive: 1 is usual"
            )
        if not 0 <= self.warmup_lr <= self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr} must lie in [0, lr {self.lr}]")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, 2, ... of `steps`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        rising = self.warmup_lr + (self.lr - self.warmup_lr) * warm
        left = min(1.0, (steps - step) / (self.decay * steps)) if self.decay else 1.0
        cosine = self.decay_shape == "cosine"
        return min(rising, self.lr * ((1 - math.cos(math.pi * left)) / 2 if cosine else left))

    def first_decayed(self, steps: int) -> float:
        """Steps before the decay of a training of `steps` begins."""
        return steps * (1 - self.decay)


def create_optimizer(
    model: nn.Module, groups: list[dict[str, Any]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Create the optimizer of a training.

    With Muon, the groups are split: `hidden_matrices` are optimised by Muon, all other parameters
    (embeddings, first and last layers, biases, norms, encodings) by AdamW.

    Args:
        model: The model.
        groups: Parameter groups, each with its own weight decay.
        config: Name and hyperparameters of the optimizer.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the installed torch has no Muon, or the model has no matrices for it.
    """
    if config.name == "adamw":
        return _adamw(groups, config)
    check_optimizer(config)
    hidden = {id(parameter) for parameter in hidden_matrices(model)}
    matrices = _select(groups, lambda parameter: id(parameter) in hidden)
    muon = torch.optim.Muon(
        [group for group in matrices if group["params"]],
        lr=config.lr,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    rest = _select(groups, lambda parameter: id(parameter) not in hidden)
    return MuonWithAdamW(muon, _adamw(rest, config))


def check_optimizer(config: OptimizerConfig) -> None:
    """Raise ValueError if the installed torch lacks the optimizer."""
    if config.name == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"optimizer.name is 'muon', but torch {torch.__version__} has no torch.optim.Muon: "
            f"install torch 2.9 or later, or set optimizer.name to adamw"
        )


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the trained 2-D parameters of the transformer blocks, except those of encodings.

    A block is the parent module of an attention. Matrices are listed as they are stored: a packed
    QKV projection is one matrix (3 width, width), and an adaptive layer norm has one for all its
    shifts, scales and gates.

    Raises:
        ValueError: If the model is not supported by `harope.integrations`, or has no such
            parameters.
    """
    layers = find_integration(model).layers(model)
    blocks = [model.get_submodule(layer.name.rpartition(".")[0]) for layer in layers]
    exempt = {id(parameter) for parameter in encoding_parameters(model)}
    # The dict removes duplicates: a block with two attentions is listed twice.
    inside = {id(p): p for block in blocks for p in block.parameters()}
    matrices = [
        p for p in inside.values() if p.requires_grad and p.ndim == 2 and id(p) not in exempt
    ]
    if not matrices:
        raise ValueError(
            "optimizer.name is 'muon', but no weight matrix of the model's blocks is trained: set "
            "optimizer.name to adamw"
        )
    return matrices


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW combined into one optimizer, with the groups and the state of both.

    With two optimizers, the fp16 gradient scaler would update its scale between them and might skip
    the step of only one. Here hooks, schedule, scaler and checkpoints see a single step.

    Args:
        muon: Optimizer of the first parameter groups.
        adamw: Optimizer of the other parameter groups.
    """

    def __init__(self, muon: torch.optim.Optimizer, adamw: torch.optim.Optimizer) -> None:
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._muon, self._adamw = muon, adamw

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step both optimizers; return the loss of the closure, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share_state()
        self._muon.step()
        self._adamw.step()
        return loss

    def _share_state(self) -> None:
        """Give both optimizers their groups and the state, which `load_state_dict` replaces."""
        count = len(self._muon.param_groups)
        self._muon.param_groups = self.param_groups[:count]
        self._adamw.param_groups = self.param_groups[count:]
        self._muon.state = self._adamw.state = self.state


class QKLRMultiplier:
    """Hooks on an optimizer's step: what it changes in these rows is multiplied by `factor`.

    Raises ValueError where the model has no such weights, see `query_key_rows`.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, factor: float) -> None:
        self.model, self.factor = model, factor
        self._before = query_key_rows(model)
        optimizer.register_step_pre_hook(self._keep)
        optimizer.register_step_post_hook(self._scale)

    @torch.no_grad()
    def _keep(self, *_: Any) -> None:
        self._before = [rows.clone() for rows in query_key_rows(self.model)]

    @torch.no_grad()
    def _scale(self, *_: Any) -> None:
        rows = query_key_rows(self.model)
        torch._foreach_lerp_(self._before, rows, self.factor)
        torch._foreach_copy_(rows, self._before)


def query_key_rows(model: nn.Module) -> list[Tensor]:
    """Views of the trained weights and biases that make queries and keys.

    Raises ValueError for a model that no host knows, and where the weights are frozen.
    """
    host = find_integration(model)
    projections = [
        part
        for layer in host.layers(model)
        for part in host.projections(layer.attention)
        if part.weight.requires_grad
    ]
    if not projections:
        raise ValueError(
            "qk_lr_multiplier is not 1 but no weight of queries and keys is trained without a norm "
            "behind it: leave it at 1"
        )
    rows = [tensor for part in projections for tensor in (part.weight, part.bias)]
    return [tensor.detach() for tensor in rows if tensor is not None]


class EMA:
    """Exponential moving average, in float32, of a model's parameters that require a gradient.

    The decay of update n is `min(decay, (1 + n) / (10 + n))`, so that the average also follows the
    weights in short trainings.

    Args:
        model: Model whose parameters are averaged.
        decay: Largest decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self.average = [p.detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [
            p.detach().to(a.dtype) for p, a in zip(self._parameters, self.average, strict=True)
        ]
        torch._foreach_lerp_(self.average, weights, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(zip(self._names, self.average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore averages and the number of updates that led to them."""
        for name, average in zip(self._names, self.average, strict=True):
            average.copy_(state[name])
        self.updates = updates

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Replace the model's weights by their averages inside the `with` block."""
        weights = [p.detach().clone() for p in self._parameters]
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state, named `{key}.{parameter name}`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{key}.{names[id(parameter)]}": torch.as_tensor(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned into an optimizer of the same model."""
    parameters = dict(model.named_parameters())
    fused = {
        id(parameter)
        for group in optimizer.param_groups
        if group.get("fused")
        for parameter in group["params"]
    }
    for name, value in tensors.items():
        key, _, parameter_name = name.partition(".")
        parameter = parameters[parameter_name]
        # AdamW's step count lives on the CPU unless its group is fused or capturable.
        device = parameter.device if value.ndim or id(parameter) in fused else "cpu"
        optimizer.state[parameter][key] = value.to(device, copy=True)


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _select(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Restrict parameter groups to the parameters that satisfy a condition."""
    return [group | {"params": [p for p in group["params"] if wanted(p)]} for group in groups]
