"""The registry of the stress test: every family, what it stands for and its parameters at the five severities.

The group "medmnist-c" is that of BloodMNIST in Di Salvo et al., MedMNIST-C (arXiv 2406.17536), with the parameters of
that paper's package; lengths are scaled from the 224 pixels assumed there to the picture's own side. The group
"held-out" has families that none of these resembles and that no recipe trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hemascope.corrupt import colour, matter, optics, sensor
from hemascope.data.cells import Images

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Family:
    """One kind of corruption.

    group: "medmnist-c" or "held-out". sentence: what it does and what it stands for.
    function: (images, rows, draw, **parameters) -> images, without checks; `hemascope.corrupt.corrupt` calls it.
    parameters: the function's own, by name: the value at each severity.
    """

    group: str
    sentence: str
    function: Callable[..., Images]
    parameters: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def at(self, severity: int) -> dict[str, float]:
        """The parameters at a severity, 1 to 5."""
        return {name: values[severity - 1] for name, values in self.parameters.items()}


_MEDMNIST_C = {
    "pixelate": Family(
        "medmnist-c",
        "Coarse square pixels, as of a picture that was kept too small.",
        sensor.pixelate,
        {"factor": (0.6, 0.5, 0.4, 0.3, 0.25)},
    ),
    "jpeg": Family(
        "medmnist-c",
        "Blocks and ringing of strong JPEG compression.",
        sensor.jpeg,
        {"quality": (50, 30, 15, 10, 7)},
    ),
    "defocus_blur": Family(
        "medmnist-c",
        "Every point spread over a disc, as out of the focal plane.",
        optics.defocus_blur,
        {"radius": (2, 3, 4, 5, 6)},
    ),
    "motion_blur": Family(
        "medmnist-c",
        "A one-sided fading streak, as of a stage that moves.",
        optics.motion_blur,
        {"radius": (3, 5, 10, 10, 10), "sigma": (3, 5, 5, 7, 9)},
    ),
    "brightness_up": Family(
        "medmnist-c", "Too long an exposure.", colour.brightness, {"factor": (1.1, 1.2, 1.3, 1.35, 1.4)}
    ),
    "brightness_down": Family(
        "medmnist-c", "Too short an exposure.", colour.brightness, {"factor": (0.9, 0.8, 0.7, 0.6, 0.5)}
    ),
    "contrast_up": Family(
        "medmnist-c", "Levels pushed away from the mean.", colour.contrast, {"factor": (1.1, 1.15, 1.2, 1.25, 1.3)}
    ),
    "contrast_down": Family(
        "medmnist-c", "Levels drawn towards the mean.", colour.contrast, {"factor": (0.9, 0.8, 0.7, 0.6, 0.5)}
    ),
    "saturate": Family(
        "medmnist-c", "Colours made stronger.", colour.saturate, {"added": (0.05, 0.1, 0.15, 0.17, 0.2)}
    ),
    "stain_deposit": Family(
        "medmnist-c",
        "Black clots of precipitated stain.",
        matter.stain_deposit,
        {"most": (1, 2, 3, 3, 3), "size": (24, 24, 24, 24, 32)},
    ),
    "bubble": Family(
        "medmnist-c",
        "Pale round bubbles of air with a bright rim.",
        matter.bubble,
        {"most": (10, 10, 10, 12, 12), "radius": (5, 7, 10, 12, 15)},
    ),
}

_HELD_OUT: dict[str, Family] = {}

FAMILIES: Mapping[str, Family] = {**_MEDMNIST_C, **_HELD_OUT}
MEDMNIST_C = tuple(_MEDMNIST_C)
HELD_OUT = tuple(_HELD_OUT)
