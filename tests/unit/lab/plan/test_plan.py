"""Memory, speed and price of a plan, and what fits if the card is too small."""

from dataclasses import replace

import pytest

from harope.lab.plan.cards import CARDS, get_card
from harope.lab.plan.main import PlanConfig, format_plan, make_plan
from harope.lab.plan.memory import Layout, needed_bytes
from harope.lab.plan.speed import estimate_speed, exchanged_bytes
from harope.lab.plan.workload import Workload
from harope.lab.recipes import get_recipe


@pytest.fixture(scope="module")
def workload() -> Workload:
    recipe = get_recipe("imagenet-dit")
    return Workload(recipe.config(), recipe)


def test_time_and_price_follow_from_the_rates(workload):
    plan = make_plan(workload, PlanConfig(card="h100", mfu=0.5, price=3.0))
    compute = 256 * plan.step_flops / (0.5 * 989.4e12)
    assert plan.speed.compute_seconds == pytest.approx(compute, rel=0.01)
    # The limit that is known for half of an H100's peak.
    assert 256 / compute == pytest.approx(3584, rel=0.01)
    assert plan.hours == pytest.approx(1e6 * plan.speed.step_seconds / 3600)
    assert plan.dollars == pytest.approx(3.0 * plan.hours)


def test_cards_divide_the_time_but_not_the_price(workload):
    one, eight = (make_plan(workload, PlanConfig(gpus=gpus)) for gpus in (1, 8))
    ratio = one.speed.compute_seconds / eight.speed.compute_seconds
    assert ratio == pytest.approx(8, rel=0.02)
    assert eight.dollars == pytest.approx(one.dollars, rel=0.15)
    assert eight.needed_bytes < one.needed_bytes


def test_a_card_that_is_too_small_is_answered_with_what_fits(workload):
    plan = make_plan(workload, PlanConfig(card="rtx-4090"))
    assert not plan.fits
    changes = [remedy.change for remedy in plan.remedies]
    assert changes[0].startswith("--accumulation ")
    assert "--gradient_checkpointing" in changes
    assert changes[-1].startswith("--card ")
    for remedy in plan.remedies[:-1]:
        assert remedy.bytes <= 24 * 2**30
    message = plan.too_small()
    assert message.startswith("imagenet-dit needs ")
    assert "on each rtx-4090, which has 24" in message
    assert "\n" not in message


def test_remedies_are_what_a_second_plan_finds(workload):
    plan = make_plan(workload, PlanConfig(card="rtx-4090"))
    first = plan.remedies[0]
    accumulation = int(first.change.rpartition(" ")[2])
    layout = Layout(batch_size=256, accumulation=accumulation)
    assert needed_bytes(workload, layout) == first.bytes


def test_sharding_divides_what_is_kept_of_the_weights(workload):
    whole = Layout(batch_size=256, gpus=8)
    sharded = replace(whole, parallel="fsdp")
    kept = 20 * workload.parameters.total
    saved = needed_bytes(workload, whole) - needed_bytes(workload, sharded)
    # Besides, DDP's buckets and the copies of autocast are gone, and two blocks are gathered.
    assert saved > kept * 7 / 8


def test_gradients_travel_in_a_ring(workload):
    layout = Layout(batch_size=256, gpus=8)
    gradients = 4 * workload.parameters.trained
    assert exchanged_bytes(workload, layout) == pytest.approx(2 * 7 / 8 * gradients)


def test_slow_links_break_first_where_the_batch_is_small(workload):
    layout = Layout(batch_size=256, gpus=64)
    slow, fast = (estimate_speed(workload, layout, get_card(c), 0.25) for c in ("rtx-4090", "h100"))
    assert slow.waits[0].name == "communication"
    assert slow.waits[0].seconds_per_step > slow.compute_seconds
    assert fast.step_seconds < slow.step_seconds / 10


def test_data_that_is_read_without_workers_is_waited_for(workload):
    layout = Layout(batch_size=256)
    waits = {
        wait.name: wait for wait in estimate_speed(workload, layout, CARDS["h100"], 0.25).waits
    }
    assert waits["data"].seconds_per_step == 0
    changed = Workload(replace(workload.config, num_workers=0), get_recipe("imagenet-dit"))
    waits = {wait.name: wait for wait in estimate_speed(changed, layout, CARDS["h100"], 0.25).waits}
    assert waits["data"].seconds_per_step > 0


def test_the_text_has_the_arithmetic(workload):
    text = format_plan(make_plan(workload, PlanConfig(gpus=8)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "weights 130.9 M x 4 bytes 0.49" in lines
    assert any(
        line.startswith("a step's operations 256 x 138 GFLOP / (8 x 989.4 TF") for line in lines
    )
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"card": "h10"}, "did you mean 'h100'"),
        ({"gpus": 0}, "gpus 0 must be at least 1"),
        ({"mfu": 1.5}, "is a fraction of the peak"),
        ({"price": -1.0}, "price -1.0 must not be negative"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig(**options)


def test_images_must_divide_among_the_cards(workload):
    with pytest.raises(ValueError, match=r"batch_size 256 is not a multiple of 3"):
        make_plan(workload, PlanConfig(gpus=3))
