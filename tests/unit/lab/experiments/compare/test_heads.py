"""What heads learned, against closed forms; replaced bases, against models that have these."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harope.integrations import ModelChangedWarning, install
from harope.lab.experiments.compare.heads import (
    ablation_losses,
    basis_statistics,
    distance_and_entropy,
    head_statistics,
    replaced_basis,
)
from harope.lab.experiments.compare.job import MEASURES_FILE, Job, run_job
from harope.lab.experiments.compare.run_metrics import (
    finished_task,
    measure_heads,
    measure_run,
    next_loss,
)
from harope.lab.training.loop import train
from harope.lab.training.tasks import create_task
from support.compare import DIGITS, SCENES, SIX
from support.host import move_encodings, own, run_images, run_own, vit

KINDS = ("rotation", "mean", "identity")
PAIRINGS = ("same", "inverse")
BASES = [
    {"basis": "orthogonal"},
    *({"basis": b, "pairing": p} for b in ("diagonal", "svd", "free") for p in PAIRINGS),
]


def with_encoding(config, encoding: str, **options):
    model = replace(config.model, encoding=encoding, encoding_options=options)
    return replace(config, model=model)


def task_of(config, encoding: str, **options):
    """With fresh weights, the same for every encoding, in eval mode."""
    torch.manual_seed(0)
    task = create_task(with_encoding(config, encoding, **options), torch.device("cpu"))
    task.model.eval()
    return task


def batch_of(task, count: int = 6):
    return task.source.samples(range(count))


def installed_vit(encoding: str = "harope", **options):
    model = vit()
    with pytest.warns(ModelChangedWarning):
        install(model, encoding, keep_absolute=False, **options)
    move_encodings(model)
    return model


@pytest.fixture(params=["dit", "vit"])
def moved(request):
    """Makes a model whose bases are away from the identity, and runs one on fixed inputs."""
    if request.param == "dit":
        return own, torch.no_grad()(run_own)
    return installed_vit, torch.no_grad()(run_images)


def encodings_of(model):
    return [block.attn.harope for block in model.blocks]


def mean_pair_distance(height: int, width: int) -> float:
    places = [(y, x) for y in range(height) for x in range(width)]
    return sum(math.dist(a, b) for a in places for b in places) / len(places) ** 2


@pytest.mark.parametrize("config", [SCENES, DIGITS], ids=["dit", "vit"])
def test_uniform_attention_has_the_mean_distance_of_the_grid(config):
    task = task_of(config, "axial")
    with torch.no_grad():
        for block in task.model.blocks:
            block.attn.qkv.weight.zero_()
            block.attn.qkv.bias.zero_()
    found = head_statistics(task, batch_of(task))
    side = 8 if config is SCENES else 4
    names = ["0.25", "0.5", "0.75"] if config is SCENES else ["images"]
    assert set(found) == {"attention_distance", "attention_entropy", "attention_distance_std"}
    assert list(found["attention_distance"]) == names
    # The class token of the ViT does not count.
    distance, entropy = mean_pair_distance(side, side), math.log(side**2)
    for name in names:
        assert found["attention_distance"][name] == [[pytest.approx(distance, rel=1e-4)] * 2] * 2
        assert found["attention_entropy"][name] == [[pytest.approx(entropy, rel=1e-4)] * 2] * 2
        assert found["attention_distance_std"][name] == pytest.approx([0, 0], abs=1e-6)


def test_attention_of_a_token_to_itself_has_no_distance_and_no_entropy():
    q = 1000 * torch.eye(6).expand(9, 2, 6, 6)
    distance, entropy = distance_and_entropy(q, q, (2, 3))
    assert torch.equal(distance, torch.zeros(2).double())
    assert torch.equal(entropy, torch.zeros(2).double())


def test_distances_and_entropies_differ_by_head():
    q = torch.zeros(3, 2, 4, 2)
    q[:, 1] = 50 * torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    distance, entropy = distance_and_entropy(q, q, (1, 4))
    # The second head attends to pairs of neighbours alike.
    assert distance.tolist() == pytest.approx([1.25, 0.5])
    assert entropy.tolist() == pytest.approx([math.log(4), math.log(2)])


def test_tokens_that_do_not_fit_the_grid_are_refused():
    q = torch.zeros(1, 1, 5, 2)
    with pytest.raises(ValueError, match="5 tokens but the grid"):
        distance_and_entropy(q, q, (2, 2))


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_bases_start_at_the_identity(pairing):
    task = task_of(SCENES, "harope", pairing=pairing)
    found = head_statistics(task, None)
    for name in ("identity_distance", "rotation_distance", "turn", "stretch"):
        assert torch.tensor(found[name]).shape == (2, 2)
        assert torch.tensor(found[name]).max() < 1e-6, name
    for values in found["singular_values"].values():
        assert torch.allclose(torch.tensor(values), torch.ones(2, 2))


def test_numbers_of_matrices_are_their_closed_forms():
    a, b = torch.diag(torch.tensor([4.0, 1, 1, 0.5])), torch.diag(torch.tensor([1.0, 1, 2, 1]))
    found = basis_statistics(torch.stack([a, b])[None])
    assert found["singular_values"] == {
        "largest": [[4, 2]],
        "median": [[1, 1]],
        "smallest": [[0.5, 1]],
    }
    assert found["stretch"] == [pytest.approx([3 * math.log(2) / 4, math.log(2) / 4], rel=1e-4)]
    assert found["identity_distance"] == [pytest.approx([math.sqrt(9.25) / 2, 0.5], rel=1e-4)]
    assert found["rotation_distance"] == found["identity_distance"]
    assert found["turn"] == [pytest.approx([0, 0], abs=1e-6)]
    assert found["deviation_cosine"] == [0]
    alike = basis_statistics(torch.stack([a, a, b])[None])
    assert alike["deviation_cosine"] == [pytest.approx(1 / 3, rel=1e-4)]
    assert "deviation_cosine" not in basis_statistics(a[None, None])


def test_attention_is_that_of_queries_and_keys_with_their_matrices():
    task, axial = task_of(SCENES, "harope", pairing="inverse"), task_of(SCENES, "axial")
    move_encodings(task.model)
    batch = batch_of(task)
    whole, plain = head_statistics(task, batch), head_statistics(axial, batch)
    with replaced_basis(task.model, "identity"):
        assert head_statistics(task, batch) == plain
    assert whole["attention_entropy"] != plain["attention_entropy"]
    assert set(whole) - set(plain) == {
        "singular_values",
        "identity_distance",
        "rotation_distance",
        "turn",
        "stretch",
        "deviation_cosine",
    }
    assert head_statistics(task, batch) == whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", BASES, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize("per_head", [True, False], ids=["per-head", "shared"])
def test_outputs_are_bit_for_bit_the_same_afterwards(moved, options, per_head, kind):
    make, run = moved
    model = make("harope", per_head=per_head, **options)
    before = run(model)
    with replaced_basis(model, kind):
        inside = run(model)
    assert torch.equal(run(model), before)
    # A rotation is its own nearest one, and one matrix for all heads is their mean.
    unchanged = (kind, options["basis"]) == ("rotation", "orthogonal")
    unchanged |= (kind, per_head) == ("mean", False)
    assert torch.allclose(inside, before, rtol=0, atol=1e-5) == unchanged


def test_bases_are_back_after_an_exception(moved):
    make, run = moved
    model = make("harope", pairing="inverse")
    before, bases = run(model), [encoding.basis for encoding in encodings_of(model)]

    def interrupted() -> None:
        with replaced_basis(model, "mean"):
            run(model)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert all(e.basis is b for e, b in zip(encodings_of(model), bases, strict=True))
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_without_bases_it_is_the_axial_model(moved, pairing):
    make, run = moved
    model, axial = make("harope", pairing=pairing), make("axial")
    weights = {k: v for k, v in model.state_dict().items() if ".harope." not in k}
    assert axial.load_state_dict(weights, strict=False).unexpected_keys == []
    assert not torch.allclose(run(model), run(axial), rtol=0, atol=1e-3)
    with replaced_basis(model, "identity"):
        assert torch.allclose(run(model), run(axial), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_matrices_that_stand_in_follow_the_pairing(pairing):
    model = own("harope", pairing=pairing)
    with torch.no_grad():
        learned = [encoding.matrices() for encoding in encodings_of(model)]
        with replaced_basis(model, "mean"):
            means = [encoding.matrices() for encoding in encodings_of(model)]
        with replaced_basis(model, "rotation"):
            rotations = [encoding.matrices() for encoding in encodings_of(model)]
    for (query, key), (mean_query, mean_key), (turned, turned_key) in zip(
        learned, means, rotations, strict=True
    ):
        assert torch.allclose(mean_query, query.mean(dim=0, keepdim=True), atol=1e-6)
        expected = mean_query if pairing == "same" else torch.linalg.inv(mean_query).mT
        assert torch.allclose(mean_key, expected, atol=1e-5)
        assert torch.equal(turned, turned_key)
        eye = torch.eye(query.shape[-1]).expand_as(query)
        assert torch.allclose(turned @ turned.mT, eye, atol=1e-5)
        # Of A = U diag(s) V^T it is U V^T, whatever the pairing.
        u, _, vh = torch.linalg.svd(query)
        assert torch.allclose(turned, u @ vh, atol=1e-4)
        assert query.shape == key.shape


def test_replaced_bases_hold_with_gradient_as_well():
    model = own("harope", pairing="inverse")
    with replaced_basis(model, "mean"):
        with torch.no_grad():
            expected = run_own(model)
        assert torch.allclose(run_own(model), expected, atol=1e-6)
        with replaced_basis(own("harope", pairing="same"), "identity"):
            assert torch.allclose(run_own(model), expected, atol=1e-6)


def test_what_cannot_be_replaced_is_refused(annotations_unchecked):
    with (
        pytest.raises(ValueError, match="use one of rotation, mean, identity"),
        replaced_basis(own("harope", pairing="inverse"), "median"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="no encoding with a learned basis"),
        replaced_basis(own(), "mean"),
    ):
        pass


def test_ablations_are_evaluated_with_each_replacement():
    model = own("harope", pairing="inverse")

    @torch.no_grad()
    def evaluate() -> float:
        return float(run_own(model).square().mean())

    found, whole = ablation_losses(model, evaluate), evaluate()
    assert list(found) == list(KINDS)
    assert len({whole, *found.values()}) == 4
    with replaced_basis(model, "rotation"):
        assert evaluate() == found["rotation"]


@pytest.mark.parametrize("encoding", ["none", "ape", "axial", "string-circulant"])
def test_nothing_is_ablated_without_a_learned_basis(encoding):
    assert ablation_losses(own(encoding), lambda: 0.0) == {}


def test_another_task_has_no_attention_to_measure(annotations_unchecked):
    other = SimpleNamespace(model=own())
    with pytest.raises(ValueError, match="attention of the task SimpleNamespace"):
        head_statistics(other, (torch.zeros(1, 3, 8, 8),))
    assert head_statistics(other, None) == {}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    config = replace(with_encoding(DIGITS, "harope", pairing="inverse"), steps=8)
    out = tmp_path_factory.mktemp("digits")
    train(config, out / "run", quiet=True)
    return config, out


def test_the_loss_is_the_same_at_every_call(digits):
    config, out = digits
    with finished_task(out / "run", config) as task:
        assert next_loss(task) == next_loss(task)
        assert next_loss(task, 4) != next_loss(task)


def test_a_classifier_is_ablated_on_its_held_out_images(digits):
    config, out = digits
    found = measure_heads(out / "run", config)
    measures = measure_run(out / "run", config, SIX, out / "samples", out / "kept")
    assert set(found["ablations"]) == {"next_loss", "top1"}
    for values in found["ablations"].values():
        assert list(values) == ["learned", *KINDS]
    # All held-out images, and all draws of the loss: the run's own measures.
    assert found["ablations"]["top1"]["learned"] == pytest.approx(measures["top1"])
    assert found["ablations"]["next_loss"]["learned"] == measures["next_loss"]
    assert set(found["heads"]["attention_distance"]) == {"images"}


@pytest.mark.parametrize("encoding", ["axial", "harope"])
def test_a_job_keeps_them_beside_its_measures(encoding, tmp_path):
    options = {"pairing": "inverse"} if encoding == "harope" else {}
    config = replace(with_encoding(SCENES, encoding, **options), steps=2, log_every=1)
    job = Job(name="run", config=config, scoring=SIX)
    run_job(job, tmp_path)
    text = (job.run_folder(tmp_path) / MEASURES_FILE).read_text()
    found = json.loads(text)
    assert list(found) == ["job", "measures", "heads", "ablations", "curve", "made_on"]
    assert job.metrics(tmp_path) == found["measures"]
    assert set(found["heads"]["attention_distance"]) == {"0.25", "0.5", "0.75"}
    assert ("turn" in found["heads"]) == (encoding == "harope")
    assert set(found["ablations"]) == ({"next_loss"} if encoding == "harope" else set())
