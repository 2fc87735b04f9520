"""The figures of a run: each function draws one, writes it as a PNG for dense screens and returns its path.

All share one light theme. Colours stay apart for colour-blind readers (dark violet, orange and teal differ in lightness
too) and never carry a meaning alone. A sentence with the figure's numbers is kept in the PNG as its `Description`, so
that a page can say what the picture shows. Text is drawn literally: a class named `$x$` stays so.
"""

from hemascope.figures.cells import augmentation_grid, cell_grid, corrupted_mistakes, mistakes
from hemascope.figures.cleaning import class_distribution, mean_pixel_histogram
from hemascope.figures.corruptions import corruption_sheet
from hemascope.figures.explained import explanation, heat_maps
from hemascope.figures.robustness import recall_heat_map, severity_curves
from hemascope.figures.scores import (
    confusion_matrix,
    data_learning_curve,
    leaderboard,
    reliability_by_corruption,
    reliability_diagram,
    training_curves,
)

__all__ = [
    "augmentation_grid",
    "cell_grid",
    "class_distribution",
    "confusion_matrix",
    "corrupted_mistakes",
    "corruption_sheet",
    "data_learning_curve",
    "explanation",
    "heat_maps",
    "leaderboard",
    "mean_pixel_histogram",
    "mistakes",
    "recall_heat_map",
    "reliability_by_corruption",
    "reliability_diagram",
    "severity_curves",
    "training_curves",
]
