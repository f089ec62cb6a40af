"""Calls public functions of rope, diffusion and models with values of any kind.

Each must return, or raise a ValueError that names the argument. `python -m support.public_calls`
runs without the checks of annotations that tests turn on, which would refuse most values first.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import harope
from harope.diffusion import (
    FlowConfig,
    GaussianConfig,
    GaussianDiffusion,
    RectifiedFlow,
    SampleNoise,
    ancestral_sample,
    euler_sample,
    guided,
    heun_sample,
    respaced_timesteps,
    sampler_for,
)
from harope.diffusion.generate import SamplingConfig, batches, generate
from harope.diffusion.sampling import check_sampling
from harope.models.dit.config import DiTConfig, dit_config
from harope.models.flux import FluxModelConfig, pack, unpack
from harope.models.mmdit import MMDiTConfig
from harope.models.vit import ViTConfig
from harope.rope import (
    EncodingConfig,
    apply_matrices,
    batched_matrices,
    create_encoding,
    grid_positions,
    rotate,
    set_scaling,
    text_image_positions,
    video_positions,
)

SHAPES = [(), (0,), (1,), (2,), (2, 2), (16, 2), (16, 8), (3, 8, 8), (1, 2, 16, 8), (2, 4, 4, 4)]


def tensors() -> st.SearchStrategy[Tensor]:
    def build(shape: tuple[int, ...], dtype: torch.dtype, value: float) -> Tensor:
        return torch.full(shape, value).to(dtype)

    dtypes = st.sampled_from(
        [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]
    )
    numbers = st.sampled_from([0.0, 1.0, -1.0, 2.0, 1e9, torch.nan, torch.inf])
    return st.builds(build, st.sampled_from(SHAPES), dtypes, numbers)


small = st.integers(-3, 24)
values = st.one_of(
    st.none(),
    st.booleans(),
    small,
    st.sampled_from([0.5, -0.5, torch.nan, torch.inf, -torch.inf, 1e30]),
    st.sampled_from(["", "harope", "axial", "ntk", "interleaved", "dpm", "x", "1"]),
    st.binary(max_size=2),
    st.lists(small, max_size=3),
    st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=1)), max_size=2),
    st.tuples(small, small),
    st.dictionaries(st.text(max_size=2), small, max_size=2),
    tensors(),
)

Q, POSITIONS = torch.ones(1, 2, 16, 8), grid_positions(4, 4)
ENCODING = create_encoding("harope", num_heads=2, head_dim=8)
CHAIN, FLOW = GaussianDiffusion(GaussianConfig(num_timesteps=9)), RectifiedFlow()
DIT = harope.DiT(DiTConfig(depth=1, width=16, num_heads=2, patch_size=2, num_classes=3)).eval()
X, LABELS = torch.ones(2, 4, 4, 4), torch.tensor([0, 3])
VIT = {"depth": 1, "width": 16, "num_heads": 2, "patch_size": 2}
MMDIT = {
    "depth": 1,
    "num_heads": 2,
    "head_dim": 8,
    "patch_size": 2,
    "in_channels": 4,
    "text_channels": 8,
    "pooled_channels": 8,
}


def twice(x: Tensor, t: Tensor) -> Tensor:
    return torch.cat([x, x], dim=1)


def same(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    return x


def single(value: Any) -> Any:
    """Return a floating-point tensor as float32: the dtype of weights is PyTorch's to check."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def noise() -> SampleNoise:
    return SampleNoise([0], (1, 2, 2))


def sampled(**options: Any) -> Tensor:
    defaults = {"shape": (1, 2, 2), "labels": [1], "null_class": 0, "seeds": [1]}
    config = SamplingConfig(sampler="euler", num_steps=1)
    return generate(same, FLOW, config=config, **{**defaults, **options})


def scaled(method: Any = "ntk", sizes: Any = (8, 8), train_sizes: Any = (4, 4)) -> None:
    encoding = create_encoding("axial", num_heads=2, head_dim=8)
    set_scaling(encoding, method, sizes=sizes, train_sizes=train_sizes)


Call = Callable[[Any], object]
CALLS: dict[str, tuple[str, Call]] = {
    # What the call is: the word that an error must contain, and the call.
    "grid_positions": ("sizes", lambda v: grid_positions(v, 2)),
    "text_image_positions": ("num_text", lambda v: text_image_positions(v, 2, 2)),
    "video_positions": ("frame_stride", lambda v: video_positions(2, 2, 2, frame_stride=v)),
    "create_encoding": ("encoding", lambda v: create_encoding(v, num_heads=2, head_dim=8)),
    "create num_heads": ("num_heads", lambda v: create_encoding("harope", num_heads=v, head_dim=8)),
    "create head_dim": ("head_dim", lambda v: create_encoding("axial", num_heads=2, head_dim=v)),
    "create num_axes": (
        "num_axes|axes",
        lambda v: create_encoding("axial", num_heads=2, head_dim=24, num_axes=v),
    ),
    "encode q": ("q", lambda v: ENCODING(v, Q, POSITIONS)),
    "encode k": ("k|x", lambda v: ENCODING(Q, v, POSITIONS)),
    "encode positions": ("positions", lambda v: ENCODING(Q, Q, v)),
    "rotate x": ("x", lambda v: rotate(v, torch.ones(16, 4), torch.ones(16, 4))),
    "rotate cos": ("cos|cosines", lambda v: rotate(Q, v, torch.ones(16, 4))),
    "rotate sin": ("sin|sines", lambda v: rotate(Q, torch.ones(16, 4), v)),
    "apply_matrices x": ("x", lambda v: apply_matrices(v, torch.ones(2, 8, 8))),
    "apply_matrices": ("matrices", lambda v: apply_matrices(Q, v)),
    "fold weight": ("weight", lambda v: harope.fold_projection(v, None, torch.ones(2, 8, 8))),
    "fold bias": (
        "bias",
        lambda v: harope.fold_projection(torch.ones(16, 4), v, torch.ones(2, 8, 8)),
    ),
    "fold matrices": ("matrices", lambda v: harope.fold_projection(torch.ones(16, 4), None, v)),
    "fold num_heads": (
        "num_heads|matrices",
        lambda v: harope.fold_projection(torch.ones(16, 4), None, torch.ones(1, 8, 8), v),
    ),
    "batched_matrices": ("encodings", lambda v: batched_matrices(v)),
    "scaling method": ("method|sizes", scaled),
    "scaling sizes": ("sizes|axes", lambda v: scaled(sizes=v)),
    "scaling train_sizes": ("train_sizes|axes", lambda v: scaled(train_sizes=v)),
    "scaling size": ("sizes", lambda v: scaled(sizes=(v, 8))),
    "set_scaling": ("module", lambda v: set_scaling(v, "ntk", sizes=(2,), train_sizes=(2,))),
    "cached": ("module", lambda v: harope.cached(v).__enter__()),
    "encoding_parameters": ("module", harope.encoding_parameters),
    "parameter_groups": ("module", lambda v: harope.parameter_groups(v, 0.1)),
    "weight_decay": ("weight_decay", lambda v: harope.parameter_groups(nn.Linear(2, 2), v)),
    "ancestral_sample": ("num_steps", lambda v: ancestral_sample(twice, CHAIN, noise(), v)),
    "euler_sample": ("num_steps", lambda v: euler_sample(same, FLOW, noise(), v)),
    "heun_sample": ("num_steps", lambda v: heun_sample(same, FLOW, noise(), v)),
    "sampler_for": ("sampler", lambda v: sampler_for(v, CHAIN)),
    "check_sampling": ("num_steps", lambda v: check_sampling("dpm", CHAIN, v)),
    "respaced_timesteps": ("num_steps", lambda v: respaced_timesteps(9, v)),
    "chain length": ("num_timesteps|timesteps", lambda v: respaced_timesteps(v, 2)),
    "seeds": ("seeds", lambda v: SampleNoise(v, (1, 2, 2)).next()),
    "seed": ("seeds", lambda v: SampleNoise([v], (1, 2, 2)).next()),
    "noise shape": ("shape", lambda v: SampleNoise([1], v).next()),
    "guided labels": ("labels", lambda v: guided(same, v, LABELS, 2.0)),
    "guided scale": ("scale", lambda v: guided(same, LABELS, LABELS, v)(X, torch.ones(2))),
    "guided channels": (
        "channels",
        lambda v: guided(same, LABELS, LABELS, 2.0, v)(X, torch.ones(2)),
    ),
    "generate labels": ("labels|guidance", lambda v: sampled(labels=v)),
    "generate seeds": ("seeds", lambda v: sampled(seeds=v)),
    "generate shape": ("shape", lambda v: sampled(shape=v)),
    "generate null_class": ("null_class|null class", lambda v: sampled(null_class=v)),
    "batches": ("batch_size", lambda v: list(batches(3, v))),
    "chain x0": ("x0", lambda v: CHAIN.losses(twice, v, X, torch.ones(2))),
    "chain noise": ("noise", lambda v: CHAIN.losses(twice, X, v, torch.ones(2))),
    "chain times": ("times|steps", lambda v: CHAIN.losses(twice, X, X, v)),
    "chain steps": ("steps", lambda v: CHAIN.schedule.model_times(v)),
    "flow times": ("times", lambda v: FLOW.losses(same, X, X, v)),
    "dit_config": ("size", dit_config),
    "DiTConfig.from_dict": ("configuration", DiTConfig.from_dict),
    "DiT x": ("x", lambda v: DIT(single(v), torch.ones(2), LABELS)),
    "DiT t": ("t", lambda v: DIT(X, v, LABELS)),
    "DiT y": ("y", lambda v: DIT(X, torch.ones(2), v)),
    "DiT positions": ("positions", lambda v: DIT(X, torch.ones(2), LABELS, v)),
    "pack": ("latents", pack),
    "unpack": ("tokens", lambda v: unpack(v, 4, 4)),
    "unpack height": ("height|tokens", lambda v: unpack(torch.ones(1, 4, 8), v, 4)),
}


def configured(kind: type, name: str, base: dict[str, Any]) -> Call:
    return lambda value: kind(**{**base, name: value})


CONFIGS: list[tuple[type, dict[str, Any]]] = [
    (EncodingConfig, {"frequencies": "axial", "basis": "svd"}),
    (EncodingConfig, {"embedding": "learned"}),
    (FlowConfig, {}),
    (GaussianConfig, {}),
    (SamplingConfig, {}),
    (DiTConfig, VIT),
    (ViTConfig, VIT),
    (MMDiTConfig, MMDIT),
    (FluxModelConfig, {}),
]
# A value may be refused for what follows from it.
ALIASES = {"encoding_options": "option", "width": "head_dim", "num_heads": "head_dim"}
for number, (kind, base) in enumerate(CONFIGS):
    for field in fields(kind):
        key = f"{kind.__name__} {number} {field.name}"
        CALLS[key] = (
            f"{field.name}|{ALIASES.get(field.name, field.name)}",
            configured(kind, field.name, base),
        )
for preset, option in [
    *[("harope", option.name) for option in fields(EncodingConfig)],
    ("ape-learned", "grid_sizes"),
    ("rope", "row_sizes"),
]:
    CALLS[f"{preset} {option}"] = (
        f"{option}|encoding",
        lambda v, p=preset, o=option: create_encoding(p, num_heads=2, head_dim=8, **{o: v}),
    )


def check(name: str) -> Counter[str]:
    """Call a function with many values; an error that is no ValueError is raised.

    Returns the number of calls that were "answered" and "refused".
    """
    words, call = CALLS[name]
    counts: Counter[str] = Counter()

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def answers_or_names_the_argument(value: object) -> None:
        try:
            call(value)
            counts["answered"] += 1
        except ValueError as error:
            counts["refused"] += 1
            if not re.search(rf"(?i)\b({words})\b", str(error)):
                raise AssertionError(f"{name}({value!r}) does not name it: {error}") from error

    answers_or_names_the_argument()
    return counts


def main() -> None:
    warnings.simplefilter("ignore")
    print(sum((check(name) for name in CALLS), Counter()))


if __name__ == "__main__":
    main()
