from __future__ import annotations

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from hemascope import figures
from hemascope.errors import InputError
from hemascope.evaluate import score
from hemascope.report import percent, render, write_report

HOSTILE = "<script>alert('class')</script>"
NAMES = ["basophil", "monocyte", HOSTILE]
COMMAND = "hemascope train cells.npz --recipe small --out 'runs/a & b' --seed 7"


class Page(html.parser.HTMLParser):
    """The text of a page, its elements, and every address that it loads or leads to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.elements.append(tag)
        found = dict(attrs)
        self.addresses += [str(found[name]) for name in ("src", "href", "srcset", "action", "data") if name in found]
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def scored(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    logits = rng.normal(size=(rows, 3)) + 1.6 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, labels, score(probabilities, labels, NAMES)


def under_corruption(score: float) -> dict[str, Any]:
    mixes = {"mild": score + 0.1, "hidden": score, "extreme": score - 0.1}
    return {
        "stress_score": score,
        "stress_score_interval": [score - 0.2, score + 0.15],
        "mixes": {name: {"accuracy": value, "accuracy_interval": None} for name, value in mixes.items()},
    }


def write_run(run: Path) -> dict[str, Any]:
    """A run folder as training leaves it, small and consistent."""
    run.mkdir()
    probabilities, labels, test = scored(120, 0)
    _, _, validation = scored(90, 1)
    _, _, further = scored(60, 2)
    further["left_out"] = {"count": 5, "of": 65, "accuracy_with_them": 0.9123}
    metrics: dict[str, Any] = {
        "weights": "random",
        "stages": [{"name": "whole network", "epochs": 3, "best_epoch": 2, "validation_accuracy": 0.8765}],
        "validation": validation,
        "test": test,
        "files": {"elsewhere.npz": further},
        "warnings": ["pretrained weights could not be had; try `hemascope doctor` or --device cpu"],
        "notes": ["pictures of 28 x 28 were resized to 96 x 96"],
        "stress": {"validation": under_corruption(0.55), "test": under_corruption(0.6321)},
    }
    (run / "metrics.json").write_text(json.dumps(metrics))
    config = {
        "version": "9.8.7",
        "command": COMMAND,
        "data": {"source": "cells.npz", "rows": 422, "fingerprint": "abc123"},
        "seed": 7,
        "recipe": {"name": "small", "backbone": "regnetx_002", "head_widths": [1024, 512]},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "environment.json").write_text(json.dumps({"python": "3.11.7", "packages": {"numpy": "2.4.6"}}))
    ids = [f'cells.npz#{row}"><img src=x onerror=alert(1)>' for row in range(120)]
    names = np.array(NAMES, dtype=object)
    predicted = probabilities.argmax(1)
    columns = {
        "id": ids,
        "label": names[labels],
        "predicted": names[predicted],
        "confidence": probabilities.max(1),
        "correct": predicted == labels,
        **{f"p_{name}": probabilities[:, at] for at, name in enumerate(NAMES)},
    }
    pd.DataFrame(columns).to_parquet(run / "predictions.parquet")
    kept = pd.DataFrame(
        {
            "id": ids + [f"cells.npz#{row}" for row in range(120, 400)],
            "label": [NAMES[row % 3] for row in range(400)],
            "split": ["test"] * 120 + ["train"] * 190 + ["validation"] * 90,
            "group": "",
            "pixel_hash": np.arange(400, dtype=np.uint64) + 2**63,
        }
    )
    kept.to_csv(run / "split.csv", index=False)
    removed = pd.DataFrame(
        {
            "id": [f"cells.npz#{row}" for row in range(400, 422)],
            "label": [NAMES[row % 3] for row in range(22)],
            "verdict": ["not_a_cell"] * 16 + ["copy"] * 6,
            "reason": ["stands 16 times under 3 labels: not a cell"] * 16
            + [f"the same pixels as cells.npz#{row}" for row in range(6)],
        }
    )
    removed.to_csv(run / "removed.csv", index=False)
    history = pd.DataFrame(
        {
            "stage": "whole network",
            "epoch": [1, 2, 3],
            "train_loss": [1.0, 0.5, 0.4],
            "validation_loss": [1.1, 0.6, 0.7],
            "train_accuracy": [0.5, 0.8, 0.9],
            "validation_accuracy": [0.5, 0.8765, 0.87],
            "seconds": [60.0, 60.0, 60.0],
            "images_per_second": [100.0, 110.0, 120.0],
        }
    )
    history.to_csv(run / "history.csv", index=False)
    figures.confusion_matrix(run / "figures" / "confusion_matrix.png", np.array(test["confusion_matrix"]), NAMES)
    figures.training_curves(run / "figures" / "training_curves.png", history, {"whole network": 2})
    noise = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    figures.cell_grid(run / "figures" / "cells.png", noise, np.arange(9) % 3, NAMES, per_class=3)
    return metrics


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("report") / "run"
    metrics = write_run(run)
    assert write_report(run) == run / "report.html"
    return run, metrics


@pytest.fixture
def run(kept_run: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(kept_run[0], tmp_path / "run"))


def test_the_verdict_stands_first_with_its_interval(kept_run: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = kept_run
    text, test = Page(run / "report.html").text, metrics["test"]
    low, high = test["accuracy_interval"]
    headline = text.index(f"{percent(test['accuracy'])} of 120 test pictures named correctly")
    assert headline < text.index("Can you believe it?") < text.index("The data") < text.index("Repeat it", headline)
    for said in (
        f"{percent(low)} and {percent(high)} (95% interval)",
        f"{low:.4f} to {high:.4f}",
        f"Balanced accuracy {test['balanced_accuracy']:.4f}",
        "Removed in cleaning 22 of 422 rows; 400 stay",
        "Weights at the start Random",
        "Warning: pretrained weights could not be had; try hemascope doctor or --device cpu",
        "pictures of one patient may stand on both sides of the split",
        "Research only, not a medical device.",
    ):
        assert said in text


def test_every_number_of_the_run_is_on_the_page(kept_run: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = kept_run
    text, test = Page(run / "report.html").text, metrics["test"]
    for row in test["per_class"]:
        low, high = row["recall_interval"]
        assert f"{row['class']} {row['support']} {row['recall']:.4f} {low:.3f}–{high:.3f}" in text
    for name, line in zip(NAMES, test["confusion_matrix"], strict=True):
        assert f"{name} {' '.join(map(str, line))}" in text
    for pair in test["most_confused"]:
        assert f"{pair['true']} taken for {pair['predicted']} {pair['count']} {percent(pair['share'])}" in text
    for said in (
        "No cell: one picture under many labels 16 3 stands 16 times under 3 labels: not a cell cells.npz#400",
        "Exact copy of a picture that stays 6 3 such as: the same pixels as cells.npz#0 cells.npz#416",
        "whole network 3 2 0.8765",
        "3 epochs in 3.0 minutes, 110 pictures a second",
        "5 of 65 known pictures; with them 0.9123",
        "pictures of 28 x 28 were resized to 96 x 96",
        COMMAND,
        "Seed 7",
        "hemascope 9.8.7",
        "numpy 2.4.6",
        "backbone: regnetx_002",
    ):
        assert said in text


def test_the_mistakes_are_listed_the_most_confident_first(kept_run: tuple[Path, dict[str, Any]]) -> None:
    run, _ = kept_run
    table = pd.read_parquet(run / "predictions.parquet")
    wrong = table[~table["correct"]].sort_values("confidence", ascending=False)
    text = Page(run / "report.html").text
    places = [
        text.index(
            f"{row['id']} {row['label']} {row['predicted']} {row['confidence']:.4f} {row['p_' + row['label']]:.4f}"
        )
        for _, row in wrong.iterrows()
    ]
    assert len(places) > 5
    assert places == sorted(places)


def test_the_page_loads_nothing_from_outside(kept_run: tuple[Path, dict[str, Any]]) -> None:
    page, source = Page(kept_run[0] / "report.html"), (kept_run[0] / "report.html").read_text(encoding="utf-8")
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import|//cdn", source)
    assert "default-src 'none'" in source
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(page.elements)
    anchors = {address[1:] for address in page.addresses if address.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]+)"', source))


def test_the_figures_are_embedded_and_told_in_words(kept_run: tuple[Path, dict[str, Any]]) -> None:
    images = Page(kept_run[0] / "report.html").images
    assert len(images) == 3
    for image in images:
        kind, content = str(image["src"]).removeprefix("data:image/").split(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(content))) as decoded:
            decoded.load()
            assert decoded.format == kind.upper()
            assert decoded.width > int(str(image["width"]))
        assert len(str(image["alt"])) > 20
    assert any("webp" in str(image["src"])[:20] for image in images), "photographs are packed"


def test_hostile_names_and_ids_stay_text(kept_run: tuple[Path, dict[str, Any]]) -> None:
    page, source = Page(kept_run[0] / "report.html"), (kept_run[0] / "report.html").read_text(encoding="utf-8")
    assert page.elements.count("script") == 1
    assert HOSTILE not in source
    assert "<img src=x" not in source
    assert HOSTILE in page.text
    assert "onerror=alert(1)" in page.text


def test_the_page_works_without_scripts_and_has_no_handlers(kept_run: tuple[Path, dict[str, Any]]) -> None:
    source = (kept_run[0] / "report.html").read_text(encoding="utf-8")
    without = re.sub(r"<script>.*?</script>", "", source, flags=re.DOTALL)
    assert not re.search(r"<[^>]*\son[a-z]+=", re.sub(r"&lt;.*?&gt;", "", without))
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source


def test_what_is_missing_is_left_out(run: Path) -> None:
    for part in ("config.yaml", "environment.json", "removed.csv", "split.csv", "history.csv", "predictions.parquet"):
        (run / part).unlink()
    shutil.rmtree(run / "figures")
    (run / "metrics.json").write_text(json.dumps({"test": {"n": 10, "accuracy": 0.5}}))
    page = Page(write_report(run))
    assert "50.0% of 10 test pictures named correctly" in page.text
    assert "Removed in cleaning" not in page.text
    assert "Research only, not a medical device." in page.text
    assert page.images == []


def test_the_stress_score_stands_on_the_first_screen_with_what_it_is(kept_run: tuple[Path, dict[str, Any]]) -> None:
    text = Page(kept_run[0] / "report.html").text
    first = text[: text.index("What the files of this run prove")]
    assert "Under simulated corruption, 63.2% are named correctly ( 43.2% to 78.2% with other cells" in first
    assert "It ranks models: it does not forecast your hidden test." in first
    assert "Stress score 0.6321 0.432 to 0.782" in first
    for said in ("mild 0.7321", "hidden 0.6321", "extreme 0.5321", "hemascope evaluate RUN DATA --stress --out DIR"):
        assert said in text


def test_a_run_of_before_the_stress_test_has_no_section_for_it(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["stress"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = Page(write_report(run)).text
    assert "tress score" not in text
    assert "Under corruption" not in text


def test_a_run_without_a_test_says_so(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["test"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = Page(write_report(run)).text
    assert f"{percent(metrics['validation']['accuracy'])} of 90 validation pictures named correctly" in text
    assert "There is no test score" in text
    assert "Stress score 0.5500" in text


def test_a_figure_of_another_name_is_shown_as_well(run: Path) -> None:
    Image.new("RGB", (40, 30), "white").save(run / "figures" / "heat_maps.png")
    page = Page(write_report(run))
    assert "More figures" in page.text
    assert [image["alt"] for image in page.images if image["alt"] == "Heat maps"]


@pytest.mark.parametrize(
    ("part", "content", "sentence"),
    [
        ("metrics.json", "{", r"metrics\.json: cannot be read \(.*\); run the training again\."),
        ("metrics.json", "[]", r"metrics\.json: holds a list, expected names and values"),
        ("metrics.json", "{}", r"metrics\.json: holds no scores under 'test' or 'validation'"),
        ("config.yaml", "a: [", r"config\.yaml: cannot be read"),
        ("split.csv", "id,label\n1,a\n", r"split\.csv: has no column split among id, label"),
        ("predictions.parquet", "no parquet", r"predictions\.parquet: cannot be read"),
        ("figures/training_curves.png", "no png", r"training_curves\.png: is not a picture that can be read"),
    ],
)
def test_a_spoilt_part_is_told_in_one_sentence_and_the_old_page_stays(
    run: Path, part: str, content: str, sentence: str
) -> None:
    before = (run / "report.html").read_bytes()
    (run / part).write_text(content)
    with pytest.raises(InputError, match=sentence) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert (run / "report.html").read_bytes() == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no metrics\.json to report on"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_pages_share_the_frame() -> None:
    page = render("base.html.j2", {"title": "Audit <b>", "version": "1.2.3"})
    assert "<title>Audit &lt;b&gt;</title>" in page
    assert "Research only, not a medical device." in page


@pytest.mark.parametrize(
    ("share", "text"), [(0.9731, "97.3%"), (1.0, "100.0%"), (0.99996, ">99.9%"), (0.0, "0.0%"), (None, "–")]
)
def test_a_share_below_one_never_reads_as_all(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_importing_the_report_imports_no_heavy_library() -> None:
    program = "import sys, hemascope.report; print({'matplotlib', 'pandas', 'torch', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
