"""Recipes: functions that return complete configurations."""

from harope.recipes.recipe import Recipe
from harope.recipes.registry import RECIPES, get_recipe

__all__ = ["RECIPES", "Recipe", "get_recipe"]
