"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382) whose draws are handed in."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes a branch for the samples that are not kept and scales it for the others.

    Which ones, the task draws for the whole batch of a step: drawn here, they would depend on the
    parts in which a batch is computed, and on where a run was resumed.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.kept: Bool[Tensor, " batch"] | None = None

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """The branch as it is in eval mode."""
        if not self.training:
            return x
        assert self.kept is not None
        scale = self.kept.to(x.dtype) / (1 - self.rate)
        return x * scale.view(-1, *(1 for _ in x.shape[1:]))


def replace_drop_paths(model: nn.Module) -> list[DropPath]:
    """Put them in the places of timm's; returns them in the model's order."""
    from timm.layers import DropPath as TimmDropPath

    replaced = []
    for name, module in list(model.named_modules()):
        if isinstance(module, TimmDropPath):
            replaced.append(DropPath(module.drop_prob))
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replaced[-1])
    return replaced


def sample_drop_path_masks(
    paths: list[DropPath], batch_size: int, share: slice, generator: torch.Generator
) -> None:
    """Draw which samples each keeps of the whole batch, and hand out the share at hand."""
    if paths:
        device = generator.device
        uniform = torch.rand(len(paths), batch_size, generator=generator, device=device)[:, share]
        for path, row in zip(paths, uniform, strict=True):
            path.kept = row >= path.rate
