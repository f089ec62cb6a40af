"""Keys and shapes of checkpoints: renaming one would orphan the weights of others."""

import pytest

from harope import DiT, DiTConfig, create_encoding

CONFIG = DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=5)

OUTSIDE = {
    "x_embedder.proj.weight": (16, 4, 2, 2),
    "x_embedder.proj.bias": (16,),
    "t_embedder.mlp.0.weight": (16, 256),
    "t_embedder.mlp.0.bias": (16,),
    "t_embedder.mlp.2.weight": (16, 16),
    "t_embedder.mlp.2.bias": (16,),
    "y_embedder.embedding_table.weight": (6, 16),
    "final_layer.linear.weight": (32, 16),
    "final_layer.linear.bias": (32,),
    "final_layer.adaLN_modulation.1.weight": (32, 16),
    "final_layer.adaLN_modulation.1.bias": (32,),
}
BLOCK = {
    "attn.qkv.weight": (48, 16),
    "attn.qkv.bias": (48,),
    "attn.proj.weight": (16, 16),
    "attn.proj.bias": (16,),
    "mlp.fc1.weight": (64, 16),
    "mlp.fc1.bias": (64,),
    "mlp.fc2.weight": (16, 64),
    "mlp.fc2.bias": (16,),
    "adaLN_modulation.1.weight": (96, 16),
    "adaLN_modulation.1.bias": (96,),
}
HAROPE = {"basis.skew_u": (2, 28), "basis.skew_v": (2, 28), "basis.raw_scale": (2, 8)}
ENCODINGS = {
    "none": {},
    "ape": {},
    "ape-learned": {"embedding.table": (12, 16)},
    "rope": {},
    "axial": {},
    "mixed": {"frequencies.wave_vectors": (2, 2, 4)},
    "video": {},
    "rethinking": {"basis.skew": (1, 28)},
    "string": {"frequencies.inv_freq": (2, 4), "basis.skew": (2, 28)},
    "string-circulant": {"frequencies.columns": (2, 2, 8)},
    "harope": HAROPE,
}


def shapes(module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_a_dit_with_harope_has_these_keys():
    blocks = {
        f"blocks.{i}.{name}": shape
        for i in range(2)
        for name, shape in {**BLOCK, **{f"attn.harope.{k}": v for k, v in HAROPE.items()}}.items()
    }
    assert shapes(DiT(CONFIG)) == {**OUTSIDE, **blocks}


def test_a_learned_embedding_lives_at_the_top():
    model = DiT(CONFIG, encoding="ape-learned", encoding_options={"grid_sizes": (3, 4)})
    blocks = {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()}
    expected = {**OUTSIDE, **blocks, "pos_embed.embedding.table": (12, 16)}
    assert shapes(model) == expected


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_has_these_keys(name):
    options = {"grid_sizes": (3, 4)} if name == "ape-learned" else {}
    encoding = create_encoding(name, num_heads=2, head_dim=8, **options)
    assert shapes(encoding) == ENCODINGS[name]


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        ("diagonal", {"basis.raw_scale": (2, 8)}),
        ("free", {"basis.matrix": (2, 8, 8)}),
        ("identity", {}),
        ("fourier", {}),
    ],
)
def test_every_basis_has_these_keys(basis, expected):
    encoding = create_encoding("harope", num_heads=2, head_dim=8, basis=basis)
    assert shapes(encoding) == expected
