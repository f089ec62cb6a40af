"""The optimizer of a training: AdamW for all parameters, or Muon for the blocks' matrices.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalises the momentum of a weight
matrix. Its updates are scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv
2502.16982), so that one learning rate and one weight decay serve both.
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
    """The optimizer of these parameter groups, each with its own weight decay.

    With Muon, the groups are split: `hidden_matrices` go to Muon, everything else (embeddings,
    first and last layers, biases, norms, encodings) to AdamW. Raises ValueError where torch has no
    Muon, and where the model has nothing for it.
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
    """Raise ValueError where the installed torch lacks the optimizer."""
    if config.name == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"optimizer.name is 'muon' but torch {torch.__version__} has no torch.optim.Muon: "
            f"install torch 2.9 or later, or set optimizer.name to adamw"
        )


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained 2-D parameters of the blocks, except those of encodings.

    A block is the module that holds an attention. Matrices are taken as they are stored: a packed
    projection of queries, keys and values is one matrix of (3 width, width), and adaptive layer
    norms have one for all their shifts, scales and gates. Raises ValueError for a model that no
    host knows, and where there is no such parameter.
    """
    layers = find_integration(model).layers(model)
    blocks = [model.get_submodule(layer.name.rpartition(".")[0]) for layer in layers]
    exempt = {id(parameter) for parameter in encoding_parameters(model)}
    # A block with two attentions is listed twice.
    inside = {id(p): p for block in blocks for p in block.parameters()}
    found = [p for p in inside.values() if p.requires_grad and p.ndim == 2 and id(p) not in exempt]
    if not found:
        raise ValueError(
            "optimizer.name is 'muon' but no weight matrix of the model's blocks is trained: set "
            "optimizer.name to adamw"
        )
    return found


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer, with the groups and the state of both.

    Two separate ones would each have the gradient scaler of fp16 decide whether to step and change
    its scale between them; here hooks, schedule, scaler and checkpoints see a single step.
    """

    def __init__(self, muon: torch.optim.Optimizer, adamw: torch.optim.Optimizer) -> None:
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._muon, self._adamw = muon, adamw

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; the loss of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share()
        self._muon.step()
        self._adamw.step()
        return loss

    def _share(self) -> None:
        """Hand both their groups and the common state, which loading a state replaces."""
        count = len(self._muon.param_groups)
        self._muon.param_groups = self.param_groups[:count]
        self._adamw.param_groups = self.param_groups[count:]
        self._muon.state = self._adamw.state = self.state


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _select(
    groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """The same groups with some of their parameters."""
    return [group | {"params": [p for p in group["params"] if wanted(p)]} for group in groups]
