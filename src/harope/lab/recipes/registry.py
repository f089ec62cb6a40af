"""All recipes by name."""

from harope._utils.suggestions import suggest
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
        raise ValueError(f"recipe {name!r} is unknown: {suggest(name, RECIPES)}")
    return RECIPES[name]
