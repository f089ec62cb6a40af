"""Small models of every kind that takes an encoding, with weights that let positions matter."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from harope import text_image_positions


@dataclass(frozen=True)
class Case:
    """A way to make a model, and to run it on fixed inputs."""

    make: Callable[[], nn.Module]
    run: Callable[[nn.Module], Tensor]
    rotates: bool = False
    """Whether it has a rotation of its own."""
    norms: bool = False
    """Whether QK-norm stands before the rotation."""
    absolute: str | None = None
    """Its own absolute embedding."""


def drawn(model: nn.Module) -> nn.Module:
    """The model in eval mode, with weights large enough for scores to differ."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.5 / max(1, parameter.shape[-1]) ** 0.5))
    return model.eval()


@torch.no_grad()
def move_encodings(model: nn.Module, spread: float = 0.2) -> None:
    """Parameters of the encodings away from their initial values."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".harope." in name and parameter.requires_grad:
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))


def seeded(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The same weights at every call."""

    @wraps(make)
    def made(*args: Any, **options: Any) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make(*args, **options)

    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@seeded
def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    import timm

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return drawn(timm.create_model(name, num_classes=5, **{**sizes, **options}))


@seeded
def eva(rope_type: str = "cat", **options: Any) -> nn.Module:
    from timm.models.eva import Eva

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    rotary = {"use_rot_pos_emb": True, "rope_type": rope_type}
    return drawn(Eva(num_classes=5, **{**sizes, **rotary, **options}))


@seeded
def dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    return drawn(
        DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=1000,
        )
    )


@seeded
def sd3(**options: Any) -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return drawn(
        SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=12,
            caption_projection_dim=32,
            pooled_projection_dim=8,
            pos_embed_max_size=12,
            **options,
        )
    )


@seeded
def flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return drawn(
        FluxTransformer2DModel(
            in_channels=4,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=24,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=8,
            axes_dims_rope=(4, 8, 12),
        )
    )


@seeded
def own(encoding: str = "axial", **options: Any) -> nn.Module:
    from harope import DiT, DiTConfig

    size = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=10)
    return drawn(DiT(size, encoding=encoding, encoding_options=options))


def run_images(model: nn.Module) -> Tensor:
    return model(normal(2, 3, 32, 32))


def run_dit(model: nn.Module) -> Tensor:
    latents, times, labels = normal(2, 4, 8, 8), torch.tensor([3, 500]), torch.tensor([1, 2])
    return model(latents, timestep=times, class_labels=labels).sample


def run_sd3(model: nn.Module) -> Tensor:
    # Wider than high.
    latents, text, pooled = normal(2, 4, 8, 12), normal(2, 5, 12, seed=1), normal(2, 8, seed=2)
    return model(latents, text, pooled, torch.tensor([3.0, 500.0])).sample


def run_flux(model: nn.Module) -> Tensor:
    return model(**flux_inputs()).sample


def flux_inputs() -> dict[str, Tensor]:
    ids = text_image_positions(5, 3, 4)
    return {
        "hidden_states": normal(2, 12, 4),
        "encoder_hidden_states": normal(2, 5, 12, seed=1),
        "pooled_projections": normal(2, 8, seed=2),
        "timestep": torch.tensor([0.1, 0.7]),
        "img_ids": ids[5:],
        "txt_ids": ids[:5],
    }


def run_own(model: nn.Module) -> Tensor:
    return model(normal(2, 4, 8, 12), torch.tensor([3.0, 500.0]), torch.tensor([1, 2]))


CASES = {
    "vit": Case(vit, run_images, absolute="learned"),
    "vit-dynamic": Case(lambda: vit(dynamic_img_size=True), run_images, absolute="learned"),
    "vit-qk-norm": Case(lambda: vit(qk_norm=True), run_images, norms=True, absolute="learned"),
    "deit": Case(lambda: vit("deit_tiny_distilled_patch16_224"), run_images, absolute="learned"),
    "eva": Case(eva, run_images, rotates=True, absolute="learned"),
    "eva-mixed": Case(
        lambda: eva("mixed", attn_type="rope"), run_images, rotates=True, absolute="learned"
    ),
    "eva-dinov3": Case(
        lambda: eva("dinov3", qkv_fused=False, use_abs_pos_emb=False), run_images, rotates=True
    ),
    "eva-no-rope": Case(lambda: eva(use_rot_pos_emb=False), run_images, absolute="learned"),
    "dit": Case(dit, run_dit, absolute="sincos"),
    "sd3": Case(sd3, run_sd3, absolute="sincos"),
    "sd35": Case(
        lambda: sd3(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        run_sd3,
        norms=True,
        absolute="sincos",
    ),
    "flux": Case(flux, run_flux, rotates=True, norms=True),
    "own-axial": Case(lambda: own("axial", theta=100.0), run_own, rotates=True),
    "own-ape": Case(lambda: own("ape"), run_own, absolute="sincos"),
}
