from __future__ import annotations

from pathlib import Path

from hemascope.augment import FAMILIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "augmentation.md"


def test_the_page_says_of_each_family_what_its_magnitude_is() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| family | at magnitude 1 |") + 2
    table = lines[start : start + len(FAMILIES)]
    assert table == [f"| `{name}` | {family.magnitude} |" for name, family in FAMILIES.items()]
    assert not lines[start + len(FAMILIES)].startswith("|")
