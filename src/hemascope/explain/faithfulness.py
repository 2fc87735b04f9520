"""Whether a heat map shows what the model looks at: cover the hottest pixels first, or show them first, and ask again.

Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, 2018, arXiv 1806.07421.
Here covered pixels have the colour of the picture's own glass instead of black: a cell on glass is what the model
knows, and a black hole is not. A map is compared with random maps as coarse as itself, since scattered pixels would
destroy the texture of a cell however little they say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import wilcoxon

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.explain.background import background_colours, cell_mask, checked

Heat = NDArray[np.floating[Any]]
STEPS, DRAWS = 16, 4


class Answers(Protocol):
    """What gives probabilities float (n, classes) for pictures uint8 (n, height, width, 3)."""

    def predict(self, images: Images) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Faithfulness:
    """What `faithfulness` found, means over `pictures` pictures.

    deletion, insertion: area under the probability of the first answer, in [0, 1], while the hottest pixels are covered
    (less is better) and shown (more is better); random_deletion, random_insertion: the same for random maps.
    deletion_p, insertion_p: one-sided paired Wilcoxon. heat_inside: the share of a map's heat within the cell's mask;
    mask_share: the share of the picture that the mask takes; inside_p: whether the first is larger. The last three are
    means over the `masked` pictures in which a cell was found, NaN where there is none.
    """

    pictures: int
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    deletion_p: float
    insertion_p: float
    masked: int
    heat_inside: float
    mask_share: float
    inside_p: float

    def as_json(self) -> dict[str, Any]:
        """The fields, None in the place of NaN, which JSON does not have."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def faithfulness(
    model: Answers, images: Images, heatmaps: Heat, steps: int = STEPS, seed: int = 0, draws: int = DRAWS
) -> Faithfulness:
    """Deletion and insertion of maps beside random ones, and how much of the heat lies on the cell.

    images: uint8 (n, height, width, 3). heatmaps: float (n, height, width), finite and >= 0, one for each picture.
    steps: in how many equal parts the pixels go. draws: how many random maps each picture is compared with.
    Raises InputError when the shapes disagree or a map is no such map.
    """
    check_maps(images, heatmaps)
    rng = np.random.default_rng(seed)
    found = curves(model, images, heatmaps, steps, rng).mean(2)
    others = np.mean([curves(model, images, as_coarse(heatmaps, rng), steps, rng).mean(2) for _ in range(draws)], 0)
    masks = cell_mask(images)
    masked = masks.any((1, 2)) & (heatmaps.max((1, 2)) > 0)
    inside = inside_share(heatmaps[masked], masks[masked])
    share = masks[masked].mean((1, 2))
    return Faithfulness(
        pictures=len(images),
        deletion=float(found[0].mean()),
        insertion=float(found[1].mean()),
        random_deletion=float(others[0].mean()),
        random_insertion=float(others[1].mean()),
        deletion_p=less(found[0], others[0]),
        insertion_p=less(others[1], found[1]),
        masked=int(masked.sum()),
        heat_inside=float(inside.mean()) if masked.any() else float("nan"),
        mask_share=float(share.mean()) if masked.any() else float("nan"),
        inside_p=less(share, inside),
    )


def curves(model: Answers, images: Images, heatmaps: Heat, steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The probability of each picture's first answer while pixels go (0) and come (1): float (2, n, steps).

    Each value is the mean over one step of its two ends, so that the mean along the last axis is the area.
    """
    found = np.empty((2, len(images), steps))
    answers = model.predict(images).argmax(1)
    glass = background_colours(images)
    for row, (image, heat) in enumerate(zip(images, heatmaps, strict=True)):
        step = ranks(heat, rng) * steps // heat.size
        gone = step[None] < np.arange(steps + 1)[:, None, None]
        shown = np.concatenate([gone, ~gone])[..., None]
        told = model.predict(np.where(shown, glass[row], image))[:, answers[row]].astype(np.float64)
        deleted, inserted = np.split(told, 2)
        found[0, row] = (deleted[1:] + deleted[:-1]) / 2
        found[1, row] = (inserted[1:] + inserted[:-1]) / 2
    return found


def ranks(heat: Heat, rng: np.random.Generator) -> NDArray[np.int64]:
    """The place of each pixel, the hottest 0: int (height, width). Those of equal heat go in blots, drawn at random."""
    blots = gaussian_filter(rng.normal(size=heat.shape), min(heat.shape) / 24)
    order = np.lexsort((blots.ravel(), -heat.ravel()))
    found = np.empty(heat.size, np.int64)
    found[order] = np.arange(heat.size)
    return found.reshape(heat.shape)


def as_coarse(heatmaps: Heat, rng: np.random.Generator) -> Heat:
    """Random maps with the spectra of these ones, so that their spots are as large but lie anywhere: the same shape.

    The phases are drawn, the amplitudes kept, as in Theiler et al., Testing for nonlinearity in time series: the method
    of surrogate data, 1992.
    """
    noise = np.fft.rfft2(rng.normal(size=heatmaps.shape))
    size = np.abs(np.fft.rfft2(heatmaps - heatmaps.mean((1, 2), keepdims=True)))
    drawn = np.fft.irfft2(size * noise / np.maximum(np.abs(noise), 1e-12), s=heatmaps.shape[1:])
    return np.asarray(drawn - drawn.min((1, 2), keepdims=True))


def inside_share(heatmaps: Heat, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of each map's heat within its mask: float (n,), NaN for a map without heat."""
    total = heatmaps.sum((1, 2), dtype=np.float64)
    return np.asarray(np.where(masks, heatmaps, 0).sum((1, 2)) / np.where(total > 0, total, np.nan), np.float64)


def less(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The probability that the first of each pair is not the smaller one: Wilcoxon's signed ranks, one-sided."""
    different = one - other
    return float(wilcoxon(different, alternative="less").pvalue) if np.any(different) else 1.0


def check_maps(images: Images, heatmaps: Heat) -> None:
    """Raise InputError when these are not a map >= 0 of the same height and width for each picture."""
    checked(images)
    if heatmaps.shape != images.shape[:3]:
        raise InputError(
            f"heat maps of shape {heatmaps.shape} were given for pictures of shape {images.shape}; give one map of the "
            "same height and width for each picture."
        )
    if not (np.isfinite(heatmaps).all() and (heatmaps >= 0).all()):
        raise InputError("a heat map has a value that is negative or no number; give maps of 0 and more.")
