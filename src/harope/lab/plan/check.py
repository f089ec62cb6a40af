"""Check before a training, whose model is not loaded yet, that its card is large enough."""

import warnings

from harope.lab.plan.cards import GIB
from harope.lab.plan.memory import (
    Layout,
    Parallel,
    kept_parts,
    needed_bytes,
    remedies,
    too_small,
)
from harope.lab.plan.workload import Workload
from harope.lab.recipes import Recipe
from harope.lab.training.task import RunConfig


def check_card(
    training: RunConfig,
    recipe: Recipe,
    *,
    name: str,
    memory_bytes: int,
    gpus: int = 1,
    parallel: Parallel = "ddp",
) -> None:
    """Check that a card has the memory for a training, and warn if it probably has not.

    What is kept between steps is known exactly; if that is more than the card has, the training is
    refused. With activations the sum is an estimate, so that more than the card has is a warning.
    Nothing is checked if the size of the data or of a pretrained model is not known.

    Args:
        training: Configuration of the training.
        recipe: Its recipe.
        name: Name of the card.
        memory_bytes: Memory of the card.
        gpus: Number of processes, with a card each.
        parallel: How they share the training.

    Raises:
        ValueError: What is kept between steps does not fit; the message says what does.
    """
    try:
        workload = Workload(training, recipe)
        layout = Layout(
            batch_size=training.batch_size,
            gpus=gpus,
            accumulation=training.accumulation,
            checkpointing=training.gradient_checkpointing,
            parallel=parallel,
        )
    except ValueError:
        # What is wrong with the training itself is said when it starts.
        return
    kept = sum(part.bytes for part in kept_parts(workload, layout))
    needed = max(kept, needed_bytes(workload, layout))
    memory = float(memory_bytes)
    if needed <= memory:
        return
    ways = remedies(workload, layout, memory)
    message = too_small(training.recipe, needed, name, memory, ways)
    if kept > memory:
        raise ValueError(f"{message}; {kept / GIB:.1f} GiB are kept between steps")
    warnings.warn(f"{message} (an estimate, see `harope plan`)", stacklevel=2)
