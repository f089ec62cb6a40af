"""A training on a card that is too small is refused, or warned of, before anything is loaded."""

import warnings
from dataclasses import replace

import pytest

from harope.lab.plan.check import check_card
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import override

RECIPE = get_recipe("scenes-dit")
SMALL = {"model.depth": "1", "model.width": "64", "model.num_heads": "2"}


def check(memory_bytes: int, recipe=RECIPE, **fields: str) -> None:
    config = override(recipe.config(), {**(SMALL if recipe is RECIPE else {}), **fields})
    check_card(config, recipe, name="a card", memory_bytes=memory_bytes)


def test_a_large_card_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(24 * 2**30)


def test_a_card_without_memory_for_the_weights_is_refused():
    with pytest.raises(
        ValueError, match=r"^scenes-dit needs .* on each a card, which has 0: .*kept"
    ):
        check(10_000)


def test_activations_that_may_not_fit_are_warned_of():
    with pytest.warns(UserWarning, match=r"it fits with --accumulation .* \(an estimate"):
        check(2 * 2**30, batch_size="1000000")


def test_what_is_not_known_is_not_checked():
    check(0, get_recipe("flux-lora-emoji"))
    config = replace(RECIPE.config(), batch_size=63)
    check_card(config, RECIPE, name="a card", memory_bytes=0, gpus=2)
