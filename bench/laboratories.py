"""What preparing pictures of another laboratory brings: its scale, its stain, several views, and all of them together.

A laboratory is a stain (optical densities mixed at random), a scale, a white balance, a scanner's blur, an uneven
background, or several of these; each is fixed by its seed, the same for all its pictures. Pictures are 96 pixels a
side, so that a wider field is filled up by mirroring and a narrower one lacks its surroundings. The model that comes
with the package names the pictures as they are, and after each option of `hemascope predict`, alone and together; for
comparison, at the scale that the size of the cells gives by colour alone, and always with the colours of training.

First on the rows of the challenge file that calibrated the model, by which defaults are chosen, then once on the public
test, less the rows that stand in the training file; 200 rows of each, drawn at random. On clean rows sets of 64 are
drawn, and sets of one class, and what is changed there is counted. Then how often the mark `scale?` is set. Data are
sought in ../shared beside the checkout. Takes some ten minutes on two
quiet cores. The last line printed is one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from challenge import SHARED, make_challenge
from hemascope.colour import ColourMatch, Colours
from hemascope.data import Images, load, pixel_hashes
from hemascope.evaluate import seen_rows
from hemascope.models import model_folder
from hemascope.preparation.asked import Asked
from hemascope.preparation.fitting import MEASURED, Preparation, field_by_colour, prepared_for
from hemascope.preparation.square import at_scale
from hemascope.preparation.views import poses
from hemascope.resize import resize
from hemascope.runtime import Model, load_model, training_hashes
from hemascope.trust.verdict import verdict_of

MODEL = "small"
ROWS = 200
SETS = 4
CHOSEN = {"--crop cell": Asked(cell=True), "--stain normalise": Asked(stain=True)}
BOTH = "--crop cell --stain normalise"

Numbers = dict[str, float]


@dataclass(frozen=True)
class Laboratory:
    """stain, white_balance: the spread of what is drawn. scale: of the cells. blur: in pixels. background: how much of
    the light is lost towards one side. few: whether nearly all cells are of two classes."""

    name: str
    stain: float = 0.0
    scale: float = 1.0
    white_balance: float = 0.0
    blur: float = 0.0
    background: float = 0.0
    seed: int = 0
    few: bool = False

    def __call__(self, images: Images) -> Images:
        """Pictures uint8 (n, side, side, 3) as this laboratory would have them."""
        rng = np.random.default_rng(self.seed)
        mixing = (np.eye(3) + self.stain * rng.normal(size=(3, 3))).astype(np.float32)
        strength = np.exp(self.stain * rng.normal(size=3)).astype(np.float32)
        light = np.exp(self.white_balance * rng.normal(size=3))
        side = images.shape[1]
        angle, tint = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1, 3)
        down, across = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        slope = 0.5 + (np.cos(angle) * across + np.sin(angle) * down) / 3
        shade = (light / light.max() * (1 - self.background * slope[..., None] * tint)).astype(np.float32)
        found = np.empty_like(images)
        for row, image in enumerate(images):
            moved = _scaled(image, self.scale)
            density = np.clip(-np.log((moved.astype(np.float32) + 1) / 256) @ mixing.T, 0, None) * strength
            shown = np.clip((np.exp(-density) * 256 - 1) * shade + 0.5, 0, 255).astype(np.uint8)
            found[row] = cv2.GaussianBlur(shown, (0, 0), self.blur) if self.blur else shown
        return found


LABORATORIES = (
    Laboratory("clean"),
    *(Laboratory("stain", stain=0.35, seed=seed) for seed in (101, 102, 103, 104)),
    Laboratory("stain, few classes", stain=0.35, seed=101, few=True),
    *(Laboratory("scale", scale=scale) for scale in (0.5, 0.65, 0.8, 1.25, 1.5, 2.0)),
    Laboratory("white balance", white_balance=0.25, seed=105),
    Laboratory("blur", blur=1.5),
    Laboratory("background", background=0.5, seed=106),
    *(Laboratory("wide, stain, blur", 0.35, 0.65, 0.0, 1.2, seed=seed) for seed in (107, 108, 109)),
    *(Laboratory("near, stain, blur, white balance", 0.25, 1.4, 0.1, 1.0, seed=seed) for seed in (110, 111)),
    Laboratory("wide, background, white balance", 0.0, 0.55, 0.2, 0.0, 0.4, seed=112),
)


def _scaled(image: Images, scale: float) -> Images:
    if scale == 1:
        return image
    side = len(image)
    if scale > 1:
        around = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), 0, scale)
        moved = cv2.warpAffine(image, around, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.uint8)
    spare = round(side * (1 / scale - 1) / 2)
    wide = cv2.copyMakeBorder(image, spare, spare, spare, spare, cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.resize(wide, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def parts(folder: Path, model: Model) -> dict[str, tuple[Images, NDArray[np.int64]]]:
    """Pictures and labels of the calibration rows and of the public test, in an order drawn once."""
    make_challenge(folder)
    training = load(folder / "training_set.npz").with_classes(model.class_names)
    split = pd.read_csv(model_folder(MODEL) / "split.csv", dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    own = training.take(np.isin(training.ids, split.loc[split["split"] == "calibration", "id"].to_numpy(str)))
    public = load(folder / "public_test.npz").with_classes(model.class_names)
    public = public.take(~seen_rows(pixel_hashes(public), training_hashes(MODEL), "public_test.npz"))
    found = {}
    for name, cells in (("calibration", own), ("public", public)):
        order = np.random.default_rng(0).permutation(len(cells))
        found[name] = np.asarray(cells.images[order]), cells.labels[order]
    return found


def applied(preparation: Preparation, images: Images) -> Images:
    side = images.shape[1]
    return preparation(resize(images, preparation.side(side)), side)


def measured(model: Model, laboratory: Laboratory, images: Images, labels: NDArray[np.int64]) -> dict[str, Any]:
    """The accuracy with each option in one laboratory, and what was found there."""
    chosen = np.arange(min(ROWS, len(labels)))
    if laboratory.few:
        two = np.isin(labels, [model.class_names.index(name) for name in ("lymphocyte", "platelet")])
        chosen = np.sort(np.concatenate([np.flatnonzero(two)[: ROWS - 30], np.flatnonzero(~two)[:30]]))
    images, labels = laboratory(images[chosen]), labels[chosen]
    some = images[np.unique(np.linspace(0, len(images) - 1, MEASURED).round().astype(int))]

    def accuracy(shown: Images) -> float:
        return float((model.predict(shown).argmax(1) == labels).mean())

    answers = model.answers(images)
    by_view = [answers.probabilities, *(model.predict(np.ascontiguousarray(pose)) for pose in poses(images, 8)[1:])]
    found = {"as they are": float((by_view[0].argmax(1) == labels).mean())}
    prepared = {name: prepared_for(model, asked, lambda _: some) for name, asked in CHOSEN.items()}
    both = prepared_for(model, Asked(cell=True, stain=True), lambda _: some)
    for name, preparation in {**prepared, BOTH: both}.items():
        found[name] = accuracy(applied(preparation, images)) if preparation.changes else found["as they are"]
    for views in (2, 4, 8):
        found[f"--views {views}"] = float((np.mean(by_view[:views], axis=0).argmax(1) == labels).mean())
    field = field_by_colour(model, some)
    found["size by colour alone"] = found["as they are"] if field is None else accuracy(at_scale(images, field))
    assert model.colours is not None
    found["colours always"] = accuracy(ColourMatch.between(Colours.of(some), model.colours)(images))
    marks = verdict_of(model).why_not(answers, images)
    marked = float(np.mean([any(reason.startswith("scale?") for reason in reasons) for reasons in marks]))
    told = {"field": both.field, "colours": both.colours is not None, "field by colour": field, "marked": marked}
    return {"laboratory": asdict(laboratory), "accuracy": found, "found": told}


def unchanged(model: Model, images: Images, labels: NDArray[np.int64]) -> dict[str, int]:
    """Of sets of clean pictures, drawn at random and of one class each, how many there are and how many are changed."""
    rng = np.random.default_rng(1)
    sets = [rng.permutation(len(images))[:MEASURED] for _ in range(SETS)]
    sets += [np.flatnonzero(labels == place)[:MEASURED] for place in range(len(model.class_names))]
    asked = Asked(cell=True, stain=True)
    changed = [prepared_for(model, asked, lambda _, rows=rows: images[rows]).changes for rows in sets]  # type: ignore[misc]
    return {"sets": len(sets), "changed": sum(changed)}


def kept_unmarked(model: Model, images: Images) -> float:
    """The share of clean pictures without the mark `scale?`."""
    marks = verdict_of(model).why_not(model.answers(images), images)
    return float(np.mean([not any(reason.startswith("scale?") for reason in reasons) for reasons in marks]))


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    model = load_model(MODEL)
    figures: dict[str, Any] = {"model": MODEL}
    with tempfile.TemporaryDirectory() as temporary:
        shown = parts(Path(temporary) / "challenge", model)
    for part, (images, labels) in shown.items():
        print(f"\n{part}: {len(labels):,} rows, of which {min(ROWS, len(labels))} are used in each laboratory")
        lines = []
        for laboratory in LABORATORIES:
            lines.append(line := measured(model, laboratory, images, labels))
            names = list(line["accuracy"])
            if len(lines) == 1:
                print("| laboratory | " + " | ".join(names) + " | field found | colours | `scale?` |")
                print("|---|" + "---:|" * (len(names) + 3))
            values = " | ".join(f"{line['accuracy'][name]:.3f}" for name in names)
            changed, told = {"stain", "scale"}, line["found"]
            words = [f"{key} {getattr(laboratory, key):g}" for key in sorted(changed) if key in laboratory.name]
            title = laboratory.name if len(words) != 1 or "," in laboratory.name else words[0]
            colours = "matched" if told["colours"] else ""
            print(f"| {title} | {values} | {told['field']:g} | {colours} | {told['marked']:.2f} |", flush=True)
        means = {name: float(np.mean([line["accuracy"][name] for line in lines])) for name in lines[0]["accuracy"]}
        print("| mean | " + " | ".join(f"{value:.3f}" for value in means.values()) + " | | | |")
        clean = unchanged(model, images, labels) | {"not_marked": kept_unmarked(model, images)}
        print(
            f"clean sets that are changed: {clean['changed']} of {clean['sets']}; not marked: {clean['not_marked']:.4f}"
        )
        figures[part] = {"laboratories": lines, "mean": means, "clean": clean}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
