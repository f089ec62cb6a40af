"""Optimizers: AdamW for all parameters, or Muon for the weight matrices of the blocks.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalises the momentum of a weight
matrix. Its updates are scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv
2502.16982), so that both use the same learning rate and weight decay.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harope.integrations.registry import find_integration
from harope.lab.training.config import OptimizerConfig
from harope.rope import encoding_parameters


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


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _select(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Restrict parameter groups to the parameters that satisfy a condition."""
    return [group | {"params": [p for p in group["params"] if wanted(p)]} for group in groups]
