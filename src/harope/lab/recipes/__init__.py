"""Recipes: named functions that return complete training configurations."""

from harope.lab.recipes.recipe import Recipe
from harope.lab.recipes.registry import RECIPES, get_recipe

__all__ = ["RECIPES", "Recipe", "get_recipe"]
