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


def get_recipe(name: str) -> Recipe:
    """A recipe by name. Raises ValueError for an unknown one, with the nearest."""
    if name not in RECIPES:
        match = get_close_matches(name, RECIPES, n=1)
        mend = f"did you mean {match[0]!r}?" if match else f"use one of {', '.join(RECIPES)}"
        raise ValueError(f"recipe {name!r} is unknown: {mend}")
    return RECIPES[name]
