"""Why a model gave an answer: what it looks at, what would change it, and which training cells are like the picture.

The heat maps come from the network itself (`hemascope.heatmap`) and travel in its file; what stands here works on
arrays and on any model that gives probabilities, without torch.
"""

from hemascope.explain.background import background_colours, cell_mask
from hemascope.explain.faithfulness import Faithfulness, faithfulness
from hemascope.explain.neighbours import (
    KnownCells,
    NearestCells,
    known_cells,
    load_known_cells,
    nearest_training_cells,
)
from hemascope.explain.occlusion import Occlusion, occlusion

__all__ = [
    "Faithfulness",
    "KnownCells",
    "NearestCells",
    "Occlusion",
    "background_colours",
    "cell_mask",
    "faithfulness",
    "known_cells",
    "load_known_cells",
    "nearest_training_cells",
    "occlusion",
]
