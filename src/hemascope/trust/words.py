"""How classes and shares are said in a sentence."""

from __future__ import annotations


def plural(class_name: str) -> str:
    """Several cells of a class: "monocytes"; a name that ends in s stays."""
    return class_name if class_name.endswith("s") else f"{class_name}s"


def percent(share: float) -> str:
    """A share in [0, 1] in whole per cent, or with a digit where it is below 1%: "38%", "0.4%"."""
    return f"{100 * share:.1f}%" if 0 < share < 0.01 else f"{100 * share:.0f}%"
