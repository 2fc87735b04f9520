"""What all figures share: the theme, the sheet of paper, and how text is fitted to it."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#221c35", "#635d7a", "#e4e0ee", "#ffffff"
VIOLET, ORANGE, TEAL, LILAC = "#553b9e", "#d9601a", "#0c8a8c", "#cdc2ea"

DENSITY = 200  # pixels an inch; pages show an inch as 100 CSS pixels, so that a 10-point letter is 14 pixels high
PHOTO_DENSITY = 150  # enough for pictures of some 100 pixels, at half the bytes
HALF, WIDE = 5.5, 11.2  # inches: two figures side by side, or one across the page

THEME: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b9b3cb",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


@contextmanager
def sheet(path: Path, width: float, height: float, density: int = DENSITY) -> Iterator[tuple[Figure, list[str]]]:
    """A figure in the theme, written to `path` when the block ends well; the list collects its description.

    The file appears whole or not at all. No pyplot: its global state would leak between threads and notebooks.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(THEME), warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that must not stop a run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), dpi=density, layout="constrained")
        FigureCanvasAgg(figure)
        description: list[str] = []
        yield figure, description
        metadata = {"Description": " ".join(description), "Software": None}
        with replacing(path) as partial:
            figure.savefig(partial, format="png", metadata=metadata)


def shortened(text: object, length: int = 26) -> str:
    """The text, its middle left out where it is longer than `length`: both ends of an id tell where it comes from."""
    words = " ".join(str(text).split())
    if len(words) <= length:
        return words
    head = (length - 1) // 2
    return f"{words[:head]}…{words[head + 1 - length :]}"


def in_two_lines(text: object, width: int = 14) -> str:
    """The text on at most two lines of about `width` letters."""
    lines = textwrap.wrap(shortened(text, 2 * width), width) or [""]
    return "\n".join(lines[:2])


def as_percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
