"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382) with masks sampled by the caller."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes a residual branch for some samples and rescales it for the others.

    The training task samples the mask once for the complete batch of a step. If the module sampled
    it, the mask would depend on how the batch is split and on where a run was resumed.

    Args:
        rate: Probability that the branch of a sample is zeroed, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.keep_mask: Bool[Tensor, " batch"] | None = None
        """Samples whose branch is kept; set by `sample_drop_path_masks` before each forward."""

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """Mask and rescale the branch in training mode; return it unchanged in eval mode.

        Args:
            x: The branch, samples first.
        """
        if not self.training:
            return x
        assert self.keep_mask is not None
        scale = self.keep_mask.to(x.dtype) / (1 - self.rate)
        return x * scale.view(-1, *(1 for _ in x.shape[1:]))


def replace_drop_paths(model: nn.Module) -> list[DropPath]:
    """Replace the timm `DropPath` modules of a model, and return the new ones in model order.

    Args:
        model: Model of timm, changed in place.
    """
    from timm.layers import DropPath as TimmDropPath

    replaced = []
    for name, module in list(model.named_modules()):
        if isinstance(module, TimmDropPath):
            replaced.append(DropPath(module.drop_prob))
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replaced[-1])
    return replaced


def sample_drop_path_masks(
    paths: list[DropPath], batch_size: int, micro_batch: slice, generator: torch.Generator
) -> None:
    """Sample the masks of a step and set those of one micro-batch.

    Args:
        paths: Modules to set the mask of.
        batch_size: Samples in the complete batch of the step, which the masks are sampled for.
        micro_batch: Range of samples in the batch that the next forward processes.
        generator: Random generator of the step.
    """
    if paths:
        shape, device = (len(paths), batch_size), generator.device
        uniform = torch.rand(shape, generator=generator, device=device)[:, micro_batch]
        for path, row in zip(paths, uniform, strict=True):
            path.keep_mask = row >= path.rate
