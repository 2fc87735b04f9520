from __future__ import annotations

import html.parser
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hemascope import draw_cells
from hemascope.audit.findings import Audit, audit
from hemascope.audit_report import MOST_GROUPS, MOST_ROWS, write_audit_report
from hemascope.data.cells import Cells

HOSTILE = "<script>alert('cell')</script>\"><img src=https://example.org/x.png>"


class Page(html.parser.HTMLParser):
    """The elements of a page, its words, its sources and addresses, and the rows of its last table."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8").replace("<wbr>", "")
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.last_table = 0
        self.inside = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.inside = tag
        self.elements.append(tag)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "action", "data") if name in found]
        self.pictures += [found["src"]] if tag == "img" else []
        self.ids += [found["id"]] if "id" in found else []
        self.last_table = 0 if tag == "tbody" else self.last_table + (tag == "tr")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def thumbnails(self) -> list[str]:
        return [source for source in self.pictures if len(source) < 20_000 and "image/webp" in source]


def joined(*parts: Cells) -> Cells:
    return replace(
        parts[0],
        images=np.concatenate([np.asarray(part.images[:]) for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ids=np.array([f"set#{row}" for row in range(sum(map(len, parts)))]),
    )


def judged(cells: Cells) -> NDArray[np.float64]:
    """What a sure model would say that calls every picture what its label says, but for the last."""
    said = cells.labels.copy()
    said[-1] = (said[-1] + 1) % len(cells.class_names)
    return np.where(said[:, None] == np.arange(len(cells.class_names)), 0.93, 0.01)


@pytest.fixture(scope="module")
def other() -> Cells:
    cells = draw_cells(24, seed=5, size=32)
    return replace(cells, source="other.npz", ids=np.array([f"other#{row}" for row in range(len(cells))]))


@pytest.fixture(scope="module")
def found(other: Cells) -> Audit:
    """Two non-cells, eight copies, one cell under two labels, and three leaks, one of them under another label."""
    dirty = draw_cells(120, seed=1, size=32, dirty=True)
    leaked = other.take(np.array([3, 4, 5]))
    leaked.labels[0] = (leaked.labels[0] + 1) % len(leaked.class_names)
    twice = draw_cells(8, seed=9, size=32).take(np.array([2, 2]))
    twice.labels[1] = (twice.labels[1] + 1) % len(twice.class_names)
    cells = replace(joined(dirty, leaked, twice), source="set", unreadable={"broken é .jpg": "truncated"})
    return audit(cells, against=[other], probabilities=judged(cells))


@pytest.fixture(scope="module")
def page(found: Audit, other: Cells, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("audit")
    path = write_audit_report(found, folder, [other])
    assert [file.name for file in folder.iterdir()] == ["audit.html"]
    return Page(path)


@pytest.fixture(scope="module")
def plain() -> Audit:
    cells = draw_cells(40, size=32)
    return audit(cells, probabilities=judged(cells))


def crowded(base: Audit, count: int) -> Audit:
    """An audit whose every row is an outlier and a suspect, under names that try to break out of the page."""
    few = base.cells
    cells = replace(
        few.take(np.arange(count) % len(few)),
        ids=np.array([f"{HOSTILE}{row}" for row in range(count)]),
        class_names=(HOSTILE, *few.class_names[1:]),
        source=HOSTILE,
    )
    rows = base.findings.iloc[np.arange(count) % len(few)].reset_index(drop=True)
    findings = rows.assign(
        id=cells.ids.astype(object),
        label=np.array(cells.class_names, object)[cells.labels],
        is_outlier=True,
        outlier_score=np.linspace(0, 0.4, count),
        is_label_suspect=True,
        label_suspect_score=np.linspace(0.1, 0.4, count),
        suggested_label=HOSTILE,
        advice="look",
        reason="unlike the rest, " * 40 + HOSTILE,
    )
    pairs = pd.DataFrame(
        {
            "row": np.arange(0, count - 1),
            "other_row": np.arange(1, count),
            "id": cells.ids[:-1].astype(object),
            "other_id": cells.ids[1:].astype(object),
            "similarity": 0.97,
            "transform": HOSTILE,
            "other_label": False,
            "where": HOSTILE,
        }
    )
    statistics = {name: values[np.arange(count) % len(few)] for name, values in base.statistics.items()}
    return replace(base, cells=cells, findings=findings, near=pairs, statistics=statistics)


def test_the_findings_come_first_with_their_numbers(found: Audit, page: Page) -> None:
    assert found.verdict in page.text
    assert found.to_look_at in page.text
    places = [page.text.index(finding.sentence[1:]) for finding in found.sentences]
    assert places == sorted(places)
    assert page.text.index("What was found") < places[0] < page.text.index("Nobody photographs")
    junk = found.findings[found.findings["is_not_a_cell"]].groupby("group").size()
    assert all(f"{size} rows under" in page.text for size in junk.tolist())


def test_copies_and_leaks_stand_side_by_side_with_labels_and_ids(found: Audit, page: Page, other: Cells) -> None:
    assert "2 rows, 2 labels: drop all" in page.text
    copies = found.findings[found.findings["is_exact_copy"]]
    conflicting = copies[copies.groupby("group")["label"].transform("nunique") > 1]
    rows, pictures = len(conflicting), conflicting["group"].nunique()
    assert f"{pictures} pictures stand under different labels, and nothing says which of them is right" in page.text
    told = f"Labels conflict: {rows} of them show {pictures} pictures under different labels, so that all {rows} go."
    assert told in page.text
    assert page.text.count("2 rows: keep one") == 8
    leaks = page.source.split('<section id="leak"')[1].split("</section>")[0]
    groups = re.split('<li class="group[ "]', leaks)[1:]
    assert len(groups) == len(found.leaks) == 3
    first = groups[0]
    assert "Different labels." in first
    assert str(found.leaks.set_index("other_row").loc[3, "id"]) in first
    assert "other#3" in first
    assert other.class_names[other.labels[3]] in first
    assert len(set(re.findall(r'src="(data:[^"]+)"', first))) == 1, "the same pixels on both sides"


def test_without_the_other_set_a_leak_names_only_the_other_id(found: Audit, tmp_path: Path) -> None:
    page = Page(write_audit_report(found, tmp_path))
    assert page.text.count("not at hand") == 3
    assert "other#3" in page.text


def test_splits_of_one_set_leak_to_each_other(tmp_path: Path) -> None:
    cells = draw_cells(16, size=32)
    cells = joined(cells, cells.take(np.array([7])))
    cells = replace(cells, split=np.array(["train"] * 16 + ["test"]))
    page = Page(write_audit_report(audit(cells, probabilities=judged(cells)), tmp_path))
    assert "The same pixels; train and test" in page.text
    assert "not at hand" not in page.text


def test_a_suspect_label_stands_beside_what_the_picture_looks_like(plain: Audit, tmp_path: Path) -> None:
    here = np.arange(len(plain.cells)) == 7
    findings = plain.findings.assign(
        is_label_suspect=here,
        label_suspect_score=np.where(here, 0.125, 1.0),
        suggested_label=np.where(here, "other", ""),
    )
    source = Page(write_audit_report(replace(plain, findings=findings), tmp_path)).source
    section = source.split('<section id="label_suspect"')[1].split("</section>")[0]
    assert f"<b>{plain.cells.class_names[plain.cells.labels[7]]} <span" in section
    assert "</span> other</span>" in section
    assert str(plain.cells.ids[7]) in section
    assert "The label is right with probability 0.125" in section
    assert "One picture." in section


def test_unreadable_files_are_listed(page: Page) -> None:
    assert "broken é .jpg" in page.text
    assert "cannot be read: truncated" in page.text


def test_the_table_holds_every_row_that_is_not_kept(found: Audit, page: Page) -> None:
    assert page.last_table == (found.findings["advice"] != "keep").sum()
    assert '<table data-sort="search">' in page.source


def test_the_page_loads_nothing_and_every_link_stays_on_it(page: Page) -> None:
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("data:image/", "#"))
        assert not address.startswith("#") or address[1:] in page.ids
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "Research only, not a medical device" in page.text


def test_names_cannot_break_out_of_the_page(plain: Audit, tmp_path: Path) -> None:
    page = Page(write_audit_report(crowded(plain, 40), tmp_path))
    assert page.elements.count("script") == 1
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert HOSTILE in page.text


def test_a_page_of_many_findings_is_small_quick_and_says_what_it_leaves_out(plain: Audit, tmp_path: Path) -> None:
    audited = crowded(plain, MOST_ROWS + 500)
    write_audit_report(crowded(plain, 40), tmp_path)  # what is imported on the way is not counted
    start = time.process_time()
    path = write_audit_report(audited, tmp_path)
    assert time.process_time() - start < 5
    assert path.stat().st_size < 3_000_000
    page = Page(path)
    assert page.last_table == MOST_ROWS
    assert "The first 2,000 of 2,500 rows" in page.text
    assert f"The {MOST_GROUPS['outlier']} worst of 2,500 pictures." in page.text
    assert f"The {MOST_GROUPS['near_copy']} worst of 2,499 pairs." in page.text
    assert 0 < len(page.thumbnails) <= 200


def test_a_name_that_is_no_text_does_not_stop_the_page(found: Audit, tmp_path: Path) -> None:
    named = replace(found, cells=replace(found.cells, source="set\udcff"))
    assert "Audit of set?" in Page(write_audit_report(named, tmp_path)).text


def test_a_clean_set_without_labels_has_a_page_too(tmp_path: Path) -> None:
    cells = draw_cells(40, size=32)
    bare = replace(cells, labels=np.full(len(cells), -1))
    page = Page(write_audit_report(audit(bare), tmp_path))
    assert "40 pictures" in page.text
    assert "Shortcuts" not in page.text
