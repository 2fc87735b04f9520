#!/usr/bin/env python3
"""Draw docs/pictures/layers.svg from the table of layers in docs/architecture.md.

A row of the table is a layer, the highest first: its name, what it is, its modules in backquotes; bold ones cannot be
imported without torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, LEFT, LETTER = 960, 300, 7.3
"""The picture's width, where modules begin, and how wide a letter of their names is taken to be."""
STYLE = """
text { font-family: system-ui, "DejaVu Sans", sans-serif; fill: #211c36; }
.band { fill: #f7f5fc; stroke: #d9d2ee; }
.title { font-size: 15px; font-weight: 700; }
.what { font-size: 11.5px; fill: #5a5475; }
.chip { fill: #ffffff; stroke: #b9aee0; }
.torch { fill: #573ba3; stroke: #573ba3; }
.name { font-size: 12px; text-anchor: middle; }
.light { fill: #ffffff; }
.arrow { stroke: #b4490f; stroke-width: 2; fill: none; }
.head { fill: #b4490f; }
.along { font-size: 12px; fill: #b4490f; text-anchor: middle; }
"""


class Layer(NamedTuple):
    """One row of the table; `torch` holds those of its modules that cannot be imported without torch."""

    name: str
    what: str
    modules: list[str]
    torch: set[str]


def layers(page: str) -> list[Layer]:
    """The layers of the page, the highest first."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([*`][^|]*`\**) \|$", page, re.MULTILINE)
    return [
        Layer(name, what, re.findall(r"`(\w+)`", listed), set(re.findall(r"\*\*`(\w+)`\*\*", listed)))
        for name, what, listed in rows
    ]


def lines_of(text: str, letters: int = 36) -> list[str]:
    """The text in lines of at most so many letters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def band(layer: Layer, top: float) -> tuple[float, list[str]]:
    """The height of a layer's band and what is drawn of it."""
    rows: list[list[tuple[str, float, float]]] = [[]]
    x = float(LEFT)
    for module in layer.modules:
        width = len(module) * LETTER + 18
        if x + width > WIDTH - 24:
            rows.append([])
            x = LEFT
        rows[-1].append((module, x, width))
        x += width + 7
    height = max(66, 16 + len(rows) * 30)
    drawn = [
        f'<rect class="band" x="44" y="{top:.0f}" width="{WIDTH - 60}" height="{height}" rx="10"/>',
        f'<text class="title" x="60" y="{top + 25:.0f}">{escape(layer.name)}</text>',
    ]
    for number, line in enumerate(lines_of(layer.what)):
        drawn.append(f'<text class="what" x="60" y="{top + 42 + number * 14:.0f}">{escape(line)}</text>')
    for number, row in enumerate(rows):
        y = top + (height - len(rows) * 30) / 2 + number * 30 + 3
        for module, x, width in row:
            chip, name = ("chip torch", "name light") if module in layer.torch else ("chip", "name")
            drawn.append(f'<rect class="{chip}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="24" rx="12"/>')
            drawn.append(f'<text class="{name}" x="{x + width / 2:.0f}" y="{y + 16:.0f}">{module}</text>')
    return height, drawn


def picture(page: str) -> str:
    """The whole picture of the page's table, as SVG."""
    top, drawn = 16.0, list[str]()
    for layer in layers(page):
        height, more = band(layer, top)
        drawn += more
        top += height + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 34:.0f}" role="img" '
        f'aria-label="The layers of hemascope, whose imports point down">\n<style>{STYLE}</style>\n'
        f'<rect width="{WIDTH}" height="{top + 34:.0f}" fill="#ffffff"/>\n'
        f'<path class="arrow" d="M28 24 V{top - 22:.0f}"/><path class="head" d="M22 {top - 24:.0f} h12 l-6 12 z"/>\n'
        f'<text class="along" transform="translate(18 {top / 2:.0f}) rotate(-90)">imports point down</text>\n'
    )
    key = (
        f'<rect class="chip torch" x="{LEFT}" y="{top + 2:.0f}" width="30" height="18" rx="9"/>\n'
        f'<text class="what" x="{LEFT + 38}" y="{top + 15:.0f}">cannot be imported without torch: for the extra '
        "&quot;train&quot; only</text>\n</svg>\n"
    )
    return head + "\n".join(drawn) + "\n" + key


if __name__ == "__main__":
    (DOCS / "pictures" / "layers.svg").write_text(
        picture((DOCS / "architecture.md").read_text(encoding="utf-8")), encoding="utf-8"
    )
