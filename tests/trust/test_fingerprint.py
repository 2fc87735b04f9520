from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from hemascope.clean import clean
from hemascope.data import Cells, Images, load, pixel_hashes
from hemascope.errors import InputError
from hemascope.resize import resize
from hemascope.synthetic import draw_cells
from hemascope.trust.fingerprint import (
    KIND,
    Fingerprint,
    fingerprint,
    fingerprint_of,
    known_rows,
    known_sentence,
)


@pytest.fixture(scope="module")
def cells() -> Images:
    return np.asarray(draw_cells(200, seed=3, size=96).images[:])


def recompressed(images: Images, quality: int) -> Images:
    found = []
    for image in images:
        coded = io.BytesIO()
        Image.fromarray(image).save(coded, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(coded)))
    return np.stack(found)


def test_signs_are_those_of_the_cosine_transform(cells: Images) -> None:
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L"), float) for image in cells[:50]])
    reference = dctn(grey, axes=(1, 2))
    order = sorted((u + v, u, v) for u in range(20) for v in range(20) if u % 2 or v % 2)[:64]
    expected = np.stack([reference[:, u, v] > 0 for _, u, v in order], axis=1)
    bits = np.unpackbits(fingerprint(cells[:50]).astype("<u8").view(np.uint8).reshape(50, 8), axis=1, bitorder="little")
    assert (bits == expected).mean() > 0.99


def test_copies_are_found_and_other_cells_are_not(cells: Images) -> None:
    trained, others = fingerprint_of(cells[:100]), cells[100:]
    assert not known_rows(trained, others).known.any()
    for copies in (
        cells[:100],
        recompressed(cells[:100], 60),
        resize(cells[:100], 80),
        resize(cells[:100], 130),
    ):
        found = known_rows(trained, copies)
        assert found.known.mean() > 0.98
        assert np.array_equal(found.nearest[found.known], np.flatnonzero(found.known))
    assert known_rows(trained, cells[:100]).distance.max() == 0


def test_real_cells_meet_only_the_leaks(challenge: Path) -> None:
    train, public = load(challenge / "training_set.npz"), load(challenge / "public_test.npz")
    cleaned, _ = clean(train)
    found = known_rows(fingerprint_of(cleaned.images), public.images)
    assert 0 < found.known.sum() < 10
    assert np.array_equal(found.known, np.isin(pixel_hashes(public), pixel_hashes(cleaned)))


def test_blank_pictures_are_no_copies_of_each_other() -> None:
    blank = np.full((3, 40, 40, 3), 200, np.uint8)
    assert not fingerprint(blank).any()
    found = known_rows(fingerprint_of(blank), blank)
    assert not found.known.any()
    assert found.nearest.tolist() == [-1] * 3


def test_a_view_is_read_in_parts_and_nothing_gives_nothing(drawn: Cells) -> None:
    some = drawn.take(np.arange(10, 30))
    assert np.array_equal(fingerprint(some.images), fingerprint(np.asarray(drawn.images[:]))[10:30])
    empty = np.zeros((0, 96, 96, 3), np.uint8)
    assert fingerprint(empty).shape == (0,)
    assert known_rows(fingerprint_of(empty), np.asarray(some.images[:])).distance.tolist() == [64] * 20


def test_it_travels_as_text(cells: Images) -> None:
    trained = fingerprint_of(cells)
    text = json.dumps(trained.as_json())
    assert len(text) < 11 * len(cells) + 100
    assert np.array_equal(Fingerprint.from_json(json.loads(text)).hashes, trained.hashes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "other"}, "of the kind 'other'"),
        ({"rows": 3}, "are damaged: .* bytes for 3 rows"),
        ({"hashes": "?"}, "are damaged"),
        ({"rows": None}, "are damaged"),
    ],
)
def test_what_is_damaged_is_refused(cells: Images, change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Fingerprint.from_json({**fingerprint_of(cells).as_json(), **change})
    assert KIND in fingerprint_of(cells).as_json()["kind"]


def test_what_is_no_pictures_is_refused() -> None:
    with pytest.raises(InputError, match="have the shape"):
        fingerprint(np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(InputError, match="are float64"):
        fingerprint(np.zeros((2, 40, 40, 3)))  # type: ignore[arg-type]  # that is what is refused


def test_in_words() -> None:
    known, correct = np.array([True, True, False, False, False]), np.array([True, True, True, True, False])
    assert known_sentence(known, correct) == (
        "2 of these 5 pictures trained this model; without them 0.667, with them 0.800."
    )
    assert known_sentence(known).startswith("2 of these 5 pictures trained this model")
    assert known_sentence(np.zeros(4, bool)) == ""
    assert "says nothing" in known_sentence(np.ones(4, bool), np.ones(4, bool))
