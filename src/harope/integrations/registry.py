"""The families of models that take an encoding."""

from torch import nn

from harope.integrations.base import Host
from harope.integrations.diffusers.dit import DiffusersDiTIntegration
from harope.integrations.diffusers.flux import FluxIntegration
from harope.integrations.diffusers.sd3 import SD3Integration
from harope.integrations.harope_dit import HaropeDiTIntegration
from harope.integrations.timm import EvaIntegration, VisionTransformerIntegration

HOSTS: tuple[Host, ...] = (
    VisionTransformerIntegration(),
    EvaIntegration(),
    DiffusersDiTIntegration(),
    SD3Integration(),
    FluxIntegration(),
    HaropeDiTIntegration(),
)


def find_integration(model: nn.Module) -> Host:
    """The host that knows the model. Raises ValueError, which lists the known ones."""
    for host in HOSTS:
        if host.matches(model):
            return host
    known = ", ".join(host.title for host in HOSTS)
    raise ValueError(
        f"{type(model).__name__} is not a model that harope knows ({known}): pass "
        f"the model itself, without wrappers, or write a harope.integrations.Host for it and pass "
        f"host=..."
    )
