"""A by hooks on QK-norms: the model's own processors stay, with all that they can do."""

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor

import harope
from support.host import CASES, flux_inputs, move_encodings

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


@pytest.fixture(params=["flux", "sd35"])
def kind(request):
    return CASES[request.param]


def installed(kind, **options):
    model = harope.install(kind.make(), "harope-v1", **{"frequencies": "host", **options})
    move_encodings(model)
    return model


def processors(model):
    return {name: type(value).__name__ for name, value in model.attn_processors.items()}


def by_processor(kind):
    """The output if a processor of harope applies A and an angle of zero."""
    model = kind.make()
    zeros = torch.zeros(17, 3) if kind is CASES["flux"] else torch.zeros(24, 2)
    harope.install(model, "harope-v1", frequencies="axial")
    move_encodings(model)
    with harope.use_positions(model, zeros):
        return kind.run(model)


@torch.no_grad()
def test_the_basis_alone_leaves_the_processors(kind):
    model = kind.make()
    before = processors(model)
    harope.install(model, "harope-v1", frequencies="host")
    assert processors(model) == before
    assert not any("Hook" in type(m).__name__ for m in model.modules())
    harope.install(other := kind.make(), "harope", frequencies="axial")
    assert set(processors(other).values()) <= {"FluxProcessor", "JointProcessor"}


@torch.no_grad()
def test_hooks_and_processor_apply_the_same_matrices(kind):
    model = installed(kind)
    if kind is CASES["flux"]:
        # At one place, FLUX's own rotation cancels too.
        ids = {"img_ids": torch.zeros(12, 3), "txt_ids": torch.zeros(5, 3)}
        out = model(**flux_inputs() | ids).sample
    else:
        out = kind.run(model)
    torch.testing.assert_close(out, by_processor(kind), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_attention_backend_works_before_and_after_installing():
    kind = CASES["flux"]  # SD3's own processor has no attention backends.
    expected = kind.run(installed(kind))
    plain, rotating = kind.make(), kind.make()
    try:
        for model, options in ((plain, {"frequencies": "host"}), (rotating, {"theta": 50.0})):
            model.set_attention_backend("_native_math")
            harope.install(model, "harope-v1", **options)
            move_encodings(model)
            backends = {p._attention_backend for p in model.attn_processors.values()}
            assert {str(getattr(b, "value", b)) for b in backends} == {"_native_math"}
        torch.testing.assert_close(kind.run(plain), expected, rtol=1e-4, atol=1e-5)
        moved = kind.run(rotating)
        rotating.set_attention_backend("native")
        torch.testing.assert_close(kind.run(rotating), moved, rtol=1e-4, atol=1e-5)
    finally:
        plain.reset_attention_backend()


def test_an_ip_adapter_is_refused_as_its_queries_would_get_the_matrices():
    model = installed(CASES["flux"])
    adapter = FluxIPAdapterAttnProcessor(hidden_size=48, cross_attention_dim=12)
    model.transformer_blocks[0].attn.set_processor(adapter)
    with pytest.raises(ValueError, match=r"processor FluxIPAdapterAttnProcessor, so its encoding"):
        CASES["flux"].run(model)


def test_gradient_checkpointing_computes_the_matrices_of_an_attention_once(monkeypatch):
    model = installed(CASES["flux"])
    model.enable_gradient_checkpointing()
    counts = dict.fromkeys(range(4), 0)
    for index, encoding in enumerate(harope.get_encodings(model).values()):
        matrices = encoding.matrices
        monkeypatch.setattr(
            encoding,
            "matrices",
            lambda i=index, m=matrices: counts.update({i: counts[i] + 1}) or m(),
        )
    model.train()
    out = CASES["flux"].run(model)
    assert counts == dict.fromkeys(range(4), 1)
    out.square().sum().backward()
    assert counts == dict.fromkeys(range(4), 2)
