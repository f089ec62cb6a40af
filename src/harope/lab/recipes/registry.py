"""All recipes by name."""

from difflib import get_close_matches

from harope.lab.recipes import coco, digits, fashion, flux, imagenet, mmdit, scenes, vit
from harope.lab.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        scenes.RECIPE,
        fashion.RECIPE,
        digits.RECIPE,
        *imagenet.RECIPES,
        *vit.RECIPES,
        *mmdit.RECIPES,
        *coco.RECIPES,
        *flux.RECIPES,
    )
}
"""All recipes by name, in the order of `harope recipes`."""


def get_recipe(name: str) -> Recipe:
    """Look up a recipe by name.

    Raises:
        ValueError: If the name is unknown; the message suggests the nearest known one.
    """
    if name not in RECIPES:
        match = get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {match[0]!r}?" if match else f"use one of {', '.join(RECIPES)}"
        raise ValueError(f"recipe {name!r} is unknown: {hint}")
    return RECIPES[name]
