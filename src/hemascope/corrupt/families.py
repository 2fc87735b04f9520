"""The registry of the stress test: every family, what it stands for and its parameters at the five severities.

The group "medmnist-c" is that of BloodMNIST in Di Salvo et al., MedMNIST-C (arXiv 2406.17536), with the parameters of
that paper's package; lengths are scaled from the 224 pixels assumed there to the picture's own side. The group
"held-out" has families that none of these resembles and that no recipe lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hemascope.corrupt import colour, light, matter, optics, sensor, shape
from hemascope.data.cells import Images

SEVERITIES = (1, 2, 3, 4, 5)

# Counts up whenever the code here changes the pixels or draws of any family, so that caches are made anew.
VERSION = 1


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

    @property
    def kind(self) -> str:
        """What goes wrong: colour, light, matter, optics, sensor or shape, as the module is called that does it."""
        return self.function.__module__.rpartition(".")[2]

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
        {"most": (1, 2, 3, 3, 3), "size": (24, 24, 24, 24, 30)},
    ),
    "bubble": Family(
        "medmnist-c",
        "Pale round bubbles of air with a bright rim.",
        matter.bubble,
        {"most": (10, 10, 10, 12, 12), "radius": (5, 7, 10, 12, 15)},
    ),
}

_HELD_OUT = {
    "fog": Family(
        "held-out",
        "A pale cloudy veil, as of a wet or dirty lens.",
        light.fog,
        {"density": (0.12, 0.22, 0.33, 0.45, 0.58)},
    ),
    "vignetting": Family(
        "held-out",
        "Dark corners about a middle that lies aside.",
        light.vignetting,
        {"loss": (0.08, 0.22, 0.4, 0.6, 0.82)},
    ),
    "speckled_illumination": Family(
        "held-out",
        "Bright and dark specks of interfering light.",
        light.speckled_illumination,
        {"depth": (0.05, 0.12, 0.2, 0.31, 0.45)},
    ),
    "uneven_tint": Family(
        "held-out",
        "Each colour brighter towards a side of its own, as of a lamp that is not centred.",
        light.uneven_tint,
        {"slope": (0.035, 0.07, 0.115, 0.17, 0.235)},
    ),
    "stain_transfer": Family(
        "held-out",
        "The stain of one of four other laboratories, in optical density.",
        colour.stain_transfer,
        {"share": (0.2, 0.4, 0.6, 0.8, 1.0)},
    ),
    "local_blur": Family(
        "held-out",
        "One ragged region out of focus, the rest sharp.",
        optics.local_blur,
        {"sigma": (0.01, 0.017, 0.025, 0.034, 0.044), "radius": (0.2, 0.26, 0.32, 0.38, 0.44)},
    ),
    "double_image": Family(
        "held-out",
        "A paler ghost of the picture beside it.",
        optics.double_image,
        {"shift": (0.03, 0.045, 0.06, 0.08, 0.1), "weight": (0.18, 0.26, 0.34, 0.42, 0.5)},
    ),
    "chromatic_aberration": Family(
        "held-out",
        "Coloured fringes: red and blue shifted apart and enlarged unequally.",
        optics.chromatic_aberration,
        {"shift": (0.007, 0.013, 0.02, 0.028, 0.038)},
    ),
    "elastic": Family(
        "held-out",
        "Bent as a smear that dried unevenly.",
        shape.elastic,
        {"reach": (0.012, 0.022, 0.033, 0.046, 0.06)},
    ),
    "stitching": Family(
        "held-out",
        "Two tiles of a scan that do not meet: shifted along a seam, one brighter or darker.",
        shape.stitching,
        {"shift": (0.02, 0.04, 0.065, 0.1, 0.14), "step": (0.02, 0.04, 0.06, 0.09, 0.12)},
    ),
    "film_grain": Family(
        "held-out",
        "Clumped noise, the same in all colours, strongest in the middle tones.",
        sensor.film_grain,
        {"amount": (4, 8, 13, 20, 29)},
    ),
    "scan_lines": Family(
        "held-out",
        "Even dark lines along rows or columns.",
        sensor.scan_lines,
        {"depth": (0.05, 0.11, 0.2, 0.33, 0.5)},
    ),
    "fibre": Family(
        "held-out",
        "Curved hairs and threads of dust across the picture.",
        matter.fibre,
        {
            "count": (1, 1, 2, 3, 4),
            "width": (0.01, 0.014, 0.018, 0.023, 0.028),
            "opacity": (0.3, 0.5, 0.65, 0.78, 0.9),
        },
    ),
    "occlusion": Family(
        "held-out",
        "A neighbouring cell over a part of this one: its own copy, turned, moved in from an edge.",
        matter.occlusion,
        {"distance": (0.74, 0.64, 0.55, 0.47, 0.4)},
    ),
}

FAMILIES: Mapping[str, Family] = {**_MEDMNIST_C, **_HELD_OUT}
MEDMNIST_C = tuple(_MEDMNIST_C)
HELD_OUT = tuple(_HELD_OUT)
