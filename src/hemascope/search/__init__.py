"""Several trainings on the same rows: recipes and seeds compared, growing shares of the rows, fields searched."""

from hemascope.search.compare import compare_recipes
from hemascope.search.growth import SHARES, learning_curve, suffices
from hemascope.search.optimise import search_recipe

__all__ = ["SHARES", "compare_recipes", "learning_curve", "search_recipe", "suffices"]
