"""The model families that `harope.install` supports."""

from torch import nn

from harope.integrations.base import Integration
from harope.integrations.diffusers.flux import FluxIntegration
from harope.integrations.diffusers.patch_embed import DiffusersDiTIntegration, SD3Integration
from harope.integrations.harope_dit import HaropeDiTIntegration
from harope.integrations.timm import EvaIntegration, VisionTransformerIntegration

INTEGRATIONS: tuple[Integration, ...] = (
    VisionTransformerIntegration(),
    EvaIntegration(),
    DiffusersDiTIntegration(),
    SD3Integration(),
    FluxIntegration(),
    HaropeDiTIntegration(),
)


def find_integration(model: nn.Module) -> Integration:
    """Return the integration of the model's family.

    Args:
        model: The model without wrappers.

    Raises:
        ValueError: No family matches; the message lists the supported ones.
    """
    for integration in INTEGRATIONS:
        if integration.matches(model):
            return integration
    known = ", ".join(integration.title for integration in INTEGRATIONS)
    raise ValueError(
        f"{type(model).__name__} is not a model that harope knows ({known}): pass the model "
        f"itself, without wrappers, or write a harope.integrations.Integration for it and pass "
        f"integration=..."
    )
