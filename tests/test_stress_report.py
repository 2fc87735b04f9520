from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemascope.corrupt import FAMILIES
from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.report import percent, render
from hemascope.stress import Stress, stress
from hemascope.stress_report import draw_stress, write_stress_page
from hemascope.stress_scores import summary

HOSTILE = "<script>alert('class')</script>"


class ByBrightness:
    class_names = ("dark", HOSTILE)

    def predict(self, images: Images) -> np.ndarray:
        bright = 1 / (1 + np.exp((130.0 - images.mean((1, 2, 3))) / 20))
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def found() -> Stress:
    labels = (np.arange(30) % 3 == 0).astype(np.int64)
    rng = np.random.default_rng(0)
    images = np.where(labels == 1, 165, 95)[:, None, None, None] + rng.normal(0, 8, (30, 24, 24, 3))
    ids = np.array([f"p{row}" for row in range(30)])
    cells = Cells(images.astype(np.uint8), labels, ("dark", HOSTILE), ids, source="shades & others.npz")
    result = stress(ByBrightness(), cells, seed=1)
    seen = {name: {"share": 0.9, "shift": 1.0, "seen": name in ("fog", "jpeg")} for name in FAMILIES}
    result.scores["novelty"] = {"threshold": 0.4, "draws": 1024, "pictures": 16, "families": seen}
    return result


@pytest.fixture(scope="module")
def page(found: Stress, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("stressed")
    found.write(folder)
    draw_stress(found, folder / "figures")
    return write_stress_page(folder).read_text(encoding="utf-8")


def words(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_page_says_what_the_score_is_and_is_not(page: str, found: Stress) -> None:
    text, scores = words(page), found.scores
    assert f"Stress score {scores['stress_score']:.4f}" in text
    low, high = scores["stress_score_interval"]
    assert f"between {low:.4f} and {high:.4f} (95% interval)" in text
    assert "It ranks models: it does not forecast your hidden test." in text
    assert "Research only, not a medical device." in text
    assert "shades &amp; others.npz" in page


def test_few_pictures_and_the_model_are_told(page: str, found: Stress, tmp_path: Path) -> None:
    assert "Only 30 pictures were stressed: the interval is too wide to judge by." in words(page)
    assert "only 30 pictures were stressed" in summary(found.scores)
    many = {**found.scores, "n": 100, "model": "runs/last", "recipe": "small"}
    (tmp_path / "stress.json").write_text(json.dumps(many))
    text = words(write_stress_page(tmp_path).read_text(encoding="utf-8"))
    assert "too wide to judge by" not in text
    assert "too wide to judge by" not in summary(many)
    assert "model runs/last, recipe small" in text
    assert "stress test of runs/last on shades" in text


def test_the_first_screen_of_a_report_says_what_the_score_is_of(found: Stress) -> None:
    source = '{% import "stress_part.html.j2" as under %}{{ under.lead(quick) }}'
    told = words(rendered(source, {"quick": found.scores}))
    score = percent(found.scores["stress_score"])
    assert told.startswith(f"Under simulated corruption, {score} are named correctly (")


def test_every_family_and_mix_is_on_the_page(page: str, found: Stress) -> None:
    text = words(page)
    for name, mix in found.scores["mixes"].items():
        assert f"{name} {mix['accuracy']:.4f}" in text
    for key in ("medmnist_c", "held_out"):
        for entry in found.scores[key]["families"]:
            title = entry["family"].replace("_", " ") + (" near training" if entry["family"] in ("fog", "jpeg") else "")
            numbers = f"{entry['accuracy']:.4f} {entry['balanced_error']:.4f} {entry['loss']:.4f}"
            relative = f" {entry['be']:.2f} {entry['rbe']:.2f}" if "be" in entry else ""
            assert f"{title} {numbers}{relative} 90%" in text
            assert entry["sentence"].split("'")[0] in text


def test_what_was_trained_on_is_grey(page: str) -> None:
    grey = re.findall(r'<tr class="grey"><th scope="row">(\w+)', page)
    assert sorted(grey) == ["fog", "jpeg"]
    assert (
        "here by up to 40%. So a family at 40% or less cannot be told from one more draw: it is called near training"
        in words(page)
    )


def test_the_tables_say_how_they_are_sorted_and_what_they_measure(page: str) -> None:
    text = words(page)
    assert text.count("Means of five severities, the largest balanced error first.") == 2
    assert page.count('aria-sort="descending">Balanced error') == 2
    assert "BE is the balanced error divided by that of the AlexNet" in text
    assert not re.search(r"-0\.0+\b", text)


def test_all_figures_are_embedded_and_names_stay_text(page: str) -> None:
    assert page.count('<img src="data:image/') == 4
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert not re.search(r"https?://|url\(|@import", page)


def test_a_run_without_the_whole_test_says_how_to_get_it(found: Stress) -> None:
    quick = {name: found.scores[name] for name in ("mixes", "stress_score", "stress_score_interval")}
    source = '{% import "stress_part.html.j2" as under %}{{ under.section(quick, none, {}) }}'
    text = words(rendered(source, {"quick": quick}))
    assert "hemascope evaluate RUN DATA --stress --out DIR" in text
    assert "Held-out families" not in text


def rendered(source: str, context: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from hemascope.report import FILTERS

    environment = Environment(loader=PackageLoader("hemascope"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    return environment.from_string(source).render(context)


def test_a_folder_without_a_stress_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no stress\.json"):
        write_stress_page(tmp_path)
    (tmp_path / "stress.json").write_text("{")
    with pytest.raises(InputError, match=r"stress\.json: cannot be read"):
        write_stress_page(tmp_path)


def test_the_page_needs_nothing_but_its_folder(found: Stress, tmp_path: Path) -> None:
    found.write(tmp_path)
    kept = json.loads((tmp_path / "stress.json").read_text())
    del kept["novelty"]
    (tmp_path / "stress.json").write_text(json.dumps(kept))
    text = words(write_stress_page(tmp_path).read_text(encoding="utf-8"))
    assert "near training" not in text
    nothing = {"threshold": 0.0, "draws": 0, "pictures": 16, "families": {}}
    (tmp_path / "stress.json").write_text(json.dumps({**kept, "novelty": nothing}))
    assert "all families are unseen to it" in words(write_stress_page(tmp_path).read_text(encoding="utf-8"))
    assert "Unseen" not in text
    assert render("base.html.j2", {"title": "x", "version": "1"})
