"""The families of models that take an encoding."""

from torch import nn

from harope.hosts.diffusers_dit import DiffusersDiTHost
from harope.hosts.flux import FluxHost
from harope.hosts.host import Host
from harope.hosts.own import DiTHost
from harope.hosts.sd3 import SD3Host
from harope.hosts.timm import EvaHost, VisionTransformerHost

HOSTS: tuple[Host, ...] = (
    VisionTransformerHost(),
    EvaHost(),
    DiffusersDiTHost(),
    SD3Host(),
    FluxHost(),
    DiTHost(),
)


def find_host(model: nn.Module) -> Host:
    """The host that knows the model. Raises ValueError, which lists the known ones."""
    for host in HOSTS:
        if host.matches(model):
            return host
    known = ", ".join(host.title for host in HOSTS)
    raise ValueError(
        f"{type(model).__name__} is not a model that harope knows ({known}): pass "
        f"the model itself, without wrappers, or write a harope.hosts.Host for it and pass host=..."
    )
