"""Training and evaluating every encoding in every model on a GPU, as far as one can without it.

No operation mixes devices, and nothing makes the host wait for the device.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harope
from harope import DiT, DiTConfig
from harope.diffusion import GaussianDiffusion, RectifiedFlow
from harope.diffusion.generate import SamplingConfig, generate
from support import host
from support.fake_cuda import DEVICE, Operators, Waits, backward, fake_tensors, move, waits

ENCODINGS = harope.list_encodings()


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE)


def whole(*shape: int) -> Tensor:
    return empty(*shape, dtype=torch.long)


def small_dit(encoding: str, **options: object) -> DiT:
    grid = {"grid_sizes": (4, 4)} if encoding == "ape-learned" else {}
    size = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5)
    return DiT(size, encoding=encoding, encoding_options=grid, **options)


def run_own(batch: int) -> Callable[[nn.Module], Tensor]:
    def run(model: nn.Module) -> Tensor:
        drop = empty(batch, dtype=torch.bool)
        out = model(empty(batch, 4, 8, 8), empty(batch), whole(batch), drop_labels=drop)
        # The penalty is a part of every loss.
        return out + model.regularization()

    return run


def run_flux(model: nn.Module) -> Tensor:
    ids = harope.text_image_positions(5, 3, 4, device=DEVICE)
    return model(
        empty(2, 12, 4), empty(2, 5, 12), empty(2, 8), empty(2), img_ids=ids[5:], txt_ids=ids[:5]
    ).sample


HOSTS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "vit": (host.vit, lambda m: m(empty(2, 3, 32, 32))),
    "eva": (host.eva, lambda m: m(empty(2, 3, 32, 32))),
    "dit": (
        host.dit,
        lambda m: m(empty(2, 4, 8, 8), timestep=whole(2), class_labels=whole(2)).sample,
    ),
    "sd3.5": (
        lambda: host.sd3(qk_norm="rms_norm", dual_attention_layers=(0,)),
        lambda m: m(empty(2, 4, 8, 12), empty(2, 5, 12), empty(2, 8), empty(2)).sample,
    ),
    "flux": (host.flux, run_flux),
}


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda x: x.sum().item(), "aten::_local_scalar_dense"),
        (lambda x: x + torch.ones(2).to(DEVICE), "aten::_to_copy"),
        (lambda x: x.copy_(torch.ones(2)), "aten::copy_"),
        (lambda x: x.cpu(), "aten::_to_copy"),
        (lambda x: x + torch.ones(2).to(DEVICE, non_blocking=True), None),
        (lambda x: x.copy_(torch.ones(2), non_blocking=True), None),
    ],
    ids=["value", "to", "copy", "back", "to without wait", "copy without wait"],
)
def test_what_waits_is_found(run, name):
    with fake_tensors(), Waits() as mode:
        run(empty(2))
    assert mode.found == ({name: 1} if name else {})


def test_a_tensor_of_the_host_is_refused():
    with fake_tensors(), pytest.raises(RuntimeError, match="at least two devices"):
        empty(2) + torch.ones(2)


@pytest.mark.parametrize("qk_norm", [False, True], ids=["", "qk_norm"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_training_the_dit_never_waits(encoding, qk_norm):
    # 16 tokens a sample: with 8 samples, A is folded into the weights.
    assert not waits(small_dit(encoding, qk_norm=qk_norm), run_own(8), train=True)


@pytest.mark.parametrize("encoding", ["axial", "harope", "string", "string-circulant"])
def test_evaluating_the_dit_never_waits(encoding):
    for batch in (1, 8):
        assert not waits(small_dit(encoding), run_own(batch), train=False)


@pytest.mark.parametrize("options", [{"orthogonal_map": "cayley"}, {"basis": "free"}], ids=str)
def test_other_bases_never_wait(options):
    size = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5)
    model = DiT(size, encoding="harope", encoding_options=options)
    assert not waits(model, run_own(8), train=True)


@pytest.mark.parametrize("encoding", ["axial", "harope", "string", "string-circulant", "mixed"])
@pytest.mark.parametrize("name", HOSTS)
def test_models_of_other_libraries_never_wait(name, encoding):
    make, run = HOSTS[name]
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", harope.integrations.ModelChangedWarning)
        harope.install(model, encoding)
    assert not waits(model, run, train=True)


def operators(encoding: str) -> int:
    """Operators of one training step of 12 layers: forward, backward and penalty."""

    def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]

    with pytest.MonkeyPatch.context() as patch, fake_tensors():
        # Without a GPU, PyTorch would choose the formula of attention, which is 20 operators.
        patch.setattr(F, "scaled_dot_product_attention", flash)
        model = move(small_dit(encoding, depth=12)).train()
        with Operators() as counted:
            out = run_own(8)(model)
            backward(out.square().mean())
        return counted.total


def test_a_basis_adds_few_operators():
    assert operators("harope") <= 1.15 * operators("axial")


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (GaussianDiffusion(), "ancestral"),
        (RectifiedFlow(), "euler"),
        (RectifiedFlow(), "heun"),
    ],
    ids=["ancestral", "euler", "heun"],
)
def test_steps_of_sampling_never_wait(process, sampler):
    """Only the beginning copies tables and labels: more steps have no more waits."""
    found = []
    for num_steps in (2, 6):
        gaussian = isinstance(process, GaussianDiffusion)
        model = small_dit("harope", learned_variance=gaussian, depth=1)
        with fake_tensors(constants=True), pytest.MonkeyPatch.context() as patch:
            # Memory is pinned by the driver, which is not there.
            patch.setattr(Tensor, "is_pinned", lambda tensor: True)
            # The grid of times is read on the host, where it is made.
            patch.setattr(torch, "linspace", lambda *ends, dtype: np.linspace(*ends))
            move(model).eval()
            with Waits() as mode:
                generate(
                    model,
                    process,
                    shape=(4, 8, 8),
                    labels=[1, 2],
                    null_class=5,
                    seeds=[0, 1],
                    config=SamplingConfig(sampler=sampler, num_steps=num_steps),
                    device=DEVICE,
                )
            found.append(mode.found)
    assert found[0] == found[1]


@pytest.mark.parametrize("process", [GaussianDiffusion(), RectifiedFlow()], ids=["ddpm", "flow"])
def test_losses_never_wait(process):
    gaussian = isinstance(process, GaussianDiffusion)
    model = small_dit("axial", learned_variance=gaussian, depth=1)
    with fake_tensors(constants=True):
        move(model).train()
        x0, labels, drop = empty(2, 4, 8, 8), whole(2), empty(2, dtype=torch.bool)
        for _ in range(2):
            # The first step copies the tables of the schedule.
            with Waits() as mode:
                losses = process.losses(
                    lambda x, t: model(x, t, labels, drop_labels=drop), x0, x0, empty(2)
                )
                backward(losses["loss"].mean())
    assert not mode.found
