"""Recipes: named functions that return complete training configurations."""

from harope._utils.suggestions import suggest
from harope.lab.recipes import coco, digits, fashion, flux, imagenet, mmdit, own, scenes, vit
from harope.lab.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "get_recipe"]

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        scenes.RECIPE,
        fashion.RECIPE,
        digits.RECIPE,
        *own.RECIPES,
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

    Args:
        name: Name of the recipe, as in `harope train NAME`.

    Returns:
        The recipe.

    Raises:
        ValueError: If the name is unknown; the message suggests the nearest known one.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown: {suggest(name, RECIPES)}")
    return RECIPES[name]
