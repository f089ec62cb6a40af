"""Names of other tools: understood where they mean the same, answered otherwise."""

import re
from dataclasses import fields, is_dataclass

import pytest

from harope.cli.fields import field_help
from harope.cli.main import build_parser
from harope.cli.parsing import parse_fields, split_words
from harope.cli.synonyms import _ANSWERED, _UNDERSTOOD, find_synonym
from harope.lab.recipes import RECIPES
from harope.lab.training.serialization import override


def command(name):
    (action,) = (a for a in build_parser()._actions if a.dest == "command")
    return action.choices[name]


def names_of_fields() -> set[str]:
    """Names of all fields of all recipes."""
    names: set[str] = set()

    def add(part) -> None:
        for item in fields(part):
            names.add(item.name)
            if is_dataclass(getattr(part, item.name)):
                add(getattr(part, item.name))

    for recipe in RECIPES.values():
        add(recipe.config())
    return names


def test_no_name_elsewhere_hides_a_field():
    elsewhere = {name.replace("-", "_") for name in (*_UNDERSTOOD, *_ANSWERED)}
    assert elsewhere & names_of_fields() == set()
    assert set(_UNDERSTOOD) & set(_ANSWERED) == set()


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--learning_rate 1e-3", "optimizer.lr", 1e-3),
        ("--max_train_steps 7", "steps", 7),
        ("--max-steps 7", "steps", 7),
        ("--resolution 64", "data.image_size", 64),
        ("--mixed_precision bf16", "precision", "bf16"),
        ("--checkpointing_steps 5", "checkpoint_every", 5),
        ("--save_total_limit 5", "keep_checkpoints", 5),
        ("--lr_warmup_steps 5", "optimizer.warmup_steps", 5),
        ("--opt adamw", "optimizer.name", "adamw"),
        ("--weight-decay 0.1", "optimizer.weight_decay", 0.1),
        ("--adam_weight_decay 0.1", "optimizer.weight_decay", 0.1),
        ("--max_grad_norm 2", "optimizer.clip_norm", 2.0),
        ("--dataloader_num_workers 2", "num_workers", 2),
        ("--cfg-scale 3", "sampling.guidance", 3.0),
        ("--guidance_scale 3", "sampling.guidance", 3.0),
        ("--num_inference_steps 9", "sampling.num_steps", 9),
        ("--logging_steps 9", "log_every", 9),
        ("--model-ema-decay 0.5", "ema_decay", 0.5),
    ],
)
def test_names_that_mean_the_same_are_understood(words, field, value):
    own, found = split_words(words.split(), command("train"), takes_fields=True)
    assert own == []
    config = override(RECIPES["scenes-dit"].config(), parse_fields(found))
    for part in field.split("."):
        config = getattr(config, part)
    assert config == value


def test_options_have_synonyms_too():
    own, found = split_words(["--output_dir", "run"], command("train"), takes_fields=True)
    assert (own, found) == (["--out", "run"], [])
    words = ["x", "--output-dir=y", "--num_inference_steps", "5", "--first-seed", "3"]
    own, _ = split_words(words, command("sample"), takes_fields=False)
    assert own == ["x", "--out=y", "--num-steps", "5", "--seed", "3"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("--train_batch_size", "--batch_size"),
        ("--gradient_accumulation_steps", "--accumulation"),
        ("--num_train_epochs", "--steps"),
        ("--epochs", "--steps"),
        ("--lr_scheduler", "--optimizer.decay"),
        ("--resume_from_checkpoint", "--resume RUN"),
        ("--adam-beta1", "--betas 0.9,0.999"),
        ("--fp16", "--precision fp16"),
        ("--negative_prompt", "no negative prompts"),
    ],
)
def test_names_that_mean_something_else_are_answered(name, says):
    with pytest.raises(ValueError, match="is not an option here") as caught:
        find_synonym(name)
    assert name in str(caught.value)
    assert says in str(caught.value)


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Options of the commands and fields of the recipes, by path and by name."""
    names = {"init", "report_to", "push_to_hub", "nproc_per_node"}
    for recipe in RECIPES.values():
        config = recipe.config()
        kinds = {"data": "folder"} if recipe.name == "scenes-dit" else {}
        for item in (item for group in field_help(config, kinds).values() for item in group):
            names |= {item.path, item.path.rpartition(".")[2]}
    for name in ("train", "sample"):
        names |= {option.lstrip("-") for option in command(name)._option_string_actions}
    return names


@pytest.mark.parametrize("answer", sorted(set(_ANSWERED.values())))
def test_answers_name_options_that_exist(answer, known):
    words = re.findall(r"--([\w.-]+)", answer)
    assert {word for word in words if word.rstrip(".") not in known} == set()


def test_a_known_name_that_a_command_has_no_option_for_is_named_as_it_was_typed():
    with pytest.raises(ValueError, match=r"^--learning-rate is not an option of `harope sample`"):
        split_words(["--learning-rate", "1"], command("sample"), takes_fields=False)
