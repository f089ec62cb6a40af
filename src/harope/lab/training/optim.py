"""Optimizers, and the separate learning rate of queries and keys.

AdamW updates all parameters, or Muon the weight matrices of the blocks and AdamW the others.

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

from harope._utils.field_checks import NOT_NEGATIVE, POSITIVE, check_range
from harope._utils.sharding import local_tensor
from harope.integrations.registry import find_integration
from harope.rope import encoding_parameters


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Configuration of the optimizer and of its learning rate.

    The learning rate rises linearly, then is constant, and may decay to 0 at the end.
    """

    name: Literal["adamw", "muon"] = "adamw"
    """Optimizer of the weight matrices of the blocks: AdamW, or Muon with Nesterov momentum 0.95
    (torch 2.9 or later). AdamW updates all other parameters, including encodings, in both cases.
    Muon's updates are scaled to the size of AdamW's, so that one `lr` serves both. A packed QKV
    projection is orthogonalised as one (3 width, width) matrix."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay; encodings, biases and norms are exempt."""
    warmup_steps: int = 0
    """Steps of the linear warm-up."""
    warmup_lr: float = 0.0
    """Learning rate at which the warm-up starts."""
    decay: float = 0.0
    """Fraction of the steps, at the end, over which the learning rate decays to 0."""
    decay_shape: Literal["linear", "cosine"] = "linear"
    """Shape of the decay: linear, or half a period of the cosine."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: no clipping."""
    qk_lr_multiplier: float = 1.0
    """Factor on the learning rate of the query and key projections; 1 is usual."""

    def __post_init__(self) -> None:
        check_range(self, POSITIVE, "lr", "clip_norm", "qk_lr_multiplier")
        check_range(self, NOT_NEGATIVE, "weight_decay", "warmup_steps")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay {self.decay} must lie in [0, 1]")
        if not 0 <= self.warmup_lr <= self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr} must lie in [0, lr {self.lr}]")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")

    def rate(self, step: int, steps: int) -> float:
        """Compute the learning rate of a step.

        Args:
            step: Number of steps done before.
            steps: Number of steps of the training.

        Returns:
            The learning rate.
        """
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        rising = self.warmup_lr + (self.lr - self.warmup_lr) * warm
        left = min(1.0, (steps - step) / (self.decay * steps)) if self.decay else 1.0
        cosine = self.decay_shape == "cosine"
        return min(rising, self.lr * ((1 - math.cos(math.pi * left)) / 2 if cosine else left))

    def first_decayed(self, steps: int) -> float:
        """Compute the step at which the decay of the learning rate begins.

        Args:
            steps: Number of steps of the training.

        Returns:
            Number of steps before the decay.
        """
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
    """Check that the installed torch has the optimizer.

    Args:
        config: Configuration of the optimizer.

    Raises:
        ValueError: If it is Muon and torch is older than 2.9.
    """
    if config.name == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"optimizer.name is 'muon', but torch {torch.__version__} has no torch.optim.Muon: "
            f"install torch 2.9 or later, or set optimizer.name to adamw"
        )


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the trained 2-D parameters of the transformer blocks, except those of encodings.

    Matrices are listed as they are stored: a packed QKV projection is one matrix (3 width, width),
    and an adaptive layer norm has one for all its shifts, scales and gates.

    Args:
        model: A transformer that `harope.integrations` supports.

    Returns:
        The matrices in the order of the blocks, without duplicates.

    Raises:
        ValueError: If the model is not supported by `harope.integrations`, or has no such
            parameters.
    """
    exempt = {id(parameter) for parameter in encoding_parameters(model)}
    inside = [p for block in transformer_blocks(model) for p in block.parameters()]
    matrices = [p for p in inside if p.requires_grad and p.ndim == 2 and id(p) not in exempt]
    if not matrices:
        raise ValueError(
            "optimizer.name is 'muon', but no weight matrix of the model's blocks is trained: set "
            "optimizer.name to adamw"
        )
    return matrices


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """List the blocks of a transformer, the parent modules of its attentions.

    Args:
        model: A transformer that `harope.integrations` supports.

    Returns:
        The blocks in order, without duplicates: a block may have two attentions.

    Raises:
        ValueError: If the model is not supported by `harope.integrations`.
    """
    layers = find_integration(model).layers(model)
    blocks = [model.get_submodule(layer.name.rpartition(".")[0]) for layer in layers]
    return list(dict.fromkeys(blocks))


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
        """Step both optimizers.

        Args:
            closure: Computes the loss and its gradients before the step.

        Returns:
            The result of the closure, or None.
        """
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
    """Another learning rate for the projections of queries and keys.

    In most models they are rows of a packed projection, which cannot form a parameter group.
    Instead, hooks on the optimizer multiply the change that a step makes to these rows by a factor.
    This equals multiplying their learning rate in any optimizer whose update is proportional to the
    learning rate, including decoupled weight decay.

    Args:
        model: A transformer that `harope.integrations` supports.
        optimizer: Optimizer of its parameters.
        factor: Factor on the learning rate.

    Raises:
        ValueError: If no such rows are trained, see `query_key_rows`.
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
    """Return views of the trained weights and biases that project to queries and keys.

    Args:
        model: A transformer that `harope.integrations` supports.

    Returns:
        Weights (rows, width), each followed by its bias (rows,), if any, in the order of layers.

    Raises:
        ValueError: If the model is not supported, or all projections are frozen or followed by a
            norm.
    """
    integration = find_integration(model)
    projections = [
        part
        for layer in integration.layers(model)
        for part in integration.projections(layer.attention)
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
        # Sharded weights are averaged piece by piece.
        averages = [local_tensor(average) for average in self.average]
        weights = [
            local_tensor(p.detach()).to(average.dtype)
            for p, average in zip(self._parameters, averages, strict=True)
        ]
        torch._foreach_lerp_(averages, weights, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages.

        Returns:
            The averages by parameter name, in float32; not copies.
        """
        return dict(zip(self._names, self.average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore the averages.

        Args:
            state: Averages by parameter name, as returned by `state_dict`.
            updates: Number of updates that led to them.
        """
        for name, average in zip(self._names, self.average, strict=True):
            average.copy_(state[name])
        self.updates = updates

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Replace the model's weights by their averages inside the `with` block.

        Yields:
            None.
        """
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


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _select(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Restrict parameter groups to the parameters that satisfy a condition."""
    return [group | {"params": [p for p in group["params"] if wanted(p)]} for group in groups]
