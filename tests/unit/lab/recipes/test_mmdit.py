from dataclasses import replace

import pytest

from harope.lab.data.captioned.emoji import caption_split
from harope.lab.data.captioned.scenes import CaptionedScenesDataset
from harope.lab.recipes import get_recipe
from harope.lab.text import open_text_encoder
from harope.models.mmdit import create_mmdit


def test_the_emoji_of_the_grid_are_held_out():
    config = get_recipe("emoji-mmdit").config()
    assert {caption_split(prompt) for prompt in config.prompts} == {"test"}
    assert config.data.split == "train"


def test_the_longest_caption_of_scenes_fills_the_text_length():
    config = get_recipe("scenes-mmdit").config()
    captions = CaptionedScenesDataset(8).samples(range(300))[1]
    states = open_text_encoder(config.text).encode([*captions, *config.prompts])
    assert states.mask.sum(dim=1).max() == config.text.length


@pytest.mark.parametrize(("name", "millions"), [("scenes-mmdit", 2.3), ("emoji-mmdit", 3.7)])
def test_parameter_counts_are_those_of_the_summaries(name, millions):
    config = get_recipe(name).config()
    model = create_mmdit(replace(config.model, encoding="none", input_size=(32, 32)))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
