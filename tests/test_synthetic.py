from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemascope.data.cells import Cells
from hemascope.errors import InputError
from hemascope.synthetic import CLASS_NAMES, draw_cells, planted
from hemascope.synthetic.draws import Draws
from hemascope.synthetic.smear import photograph_field

# Mean red, green and blue of the first eight pictures of seed 0, as first drawn.
FIRST_MEANS = [
    [216.84, 205.96, 213.64],
    [227.89, 210.47, 208.70],
    [196.12, 171.27, 186.58],
    [201.32, 166.07, 169.50],
    [195.28, 176.64, 201.47],
    [204.76, 193.47, 198.54],
    [212.31, 188.73, 174.69],
    [183.73, 157.45, 193.23],
]


@pytest.fixture(scope="module")
def sample() -> Cells:
    return draw_cells(320, seed=1)


@pytest.fixture(scope="module")
def dirty() -> Cells:
    return draw_cells(200, seed=2, dirty=True, size=24)


def as_array(cells: Cells) -> NDArray[np.uint8]:
    return np.asarray(cells.images[:])


def form_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What is left of a picture when its stain and light are taken away: areas, lobes, compactness, grain."""
    rows = []
    for green in images[..., 1].astype(np.float32):
        lightest, darkest = np.partition(green.ravel(), (46, -460))[[-460, 46]]
        dark = (lightest - green) / (lightest - darkest)
        row = [float(np.abs(ndimage.gaussian_laplace(dark, width)).mean()) for width in (0.7, 2.0)]
        for level in (0.3, 0.5, 0.7, 0.85):
            parts, _ = ndimage.label(dark > level)
            sizes = np.bincount(parts.ravel())[1:]
            largest = parts == 1 + np.argmax(sizes)
            y, x = np.nonzero(largest)
            edge = (largest & ~ndimage.binary_erosion(largest)).sum()
            row += [sizes.max(), (sizes > 8).sum(), (x.var() + y.var()) / sizes.max(), edge**2 / sizes.max()]
        rows.append(row)
    return np.array(rows, np.float64)


def test_a_sample_holds_eight_even_classes_of_eight_bit_pictures(sample: Cells) -> None:
    assert sample.class_names == CLASS_NAMES
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert CLASS_NAMES[3] == "immature granulocyte"
    images = as_array(sample)
    assert images.shape == (320, 96, 96, 3)
    assert images.dtype == np.uint8
    assert set(sample.class_counts().values()) == {40}
    assert len(set(sample.ids.tolist())) == 320
    assert sample.source == "sample"


def test_no_two_pictures_of_a_clean_sample_are_alike(sample: Cells) -> None:
    assert len({picture.tobytes() for picture in as_array(sample)}) == len(sample)


def test_a_picture_depends_on_its_seed_and_row_alone(sample: Cells) -> None:
    shorter = draw_cells(20, seed=1)
    np.testing.assert_array_equal(as_array(shorter), as_array(sample)[:20])
    np.testing.assert_array_equal(shorter.labels, sample.labels[:20])
    assert not np.array_equal(as_array(draw_cells(1, seed=3))[0], as_array(sample)[0])


def test_the_first_pictures_are_those_first_drawn() -> None:
    means = as_array(draw_cells(8, seed=0)).mean(axis=(1, 2))
    np.testing.assert_allclose(means, FIRST_MEANS, atol=0.05)


def test_another_size_shows_the_same_cells() -> None:
    fine, coarse = as_array(draw_cells(8, size=96)), as_array(draw_cells(8, size=48))
    shrunk = fine.reshape(8, 48, 2, 48, 2, 3).mean(axis=(2, 4))
    assert coarse.shape == (8, 48, 48, 3)
    assert np.abs(shrunk - coarse).mean() < 4


def test_mean_colours_do_not_tell_the_classes_apart_but_form_does(sample: Cells) -> None:
    images = as_array(sample)
    colours = images.mean(axis=(1, 2))
    by_colour = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    by_form = ExtraTreesClassifier(30, random_state=0)
    colour_accuracy = cross_val_score(by_colour, colours, sample.labels, cv=3).mean()
    form_accuracy = cross_val_score(by_form, form_features(images), sample.labels, cv=3).mean()
    assert colour_accuracy < 0.60
    assert form_accuracy > 0.90


def test_a_dirty_sample_holds_exactly_what_was_planted(dirty: Cells) -> None:
    truth = planted(200, seed=2)
    np.testing.assert_array_equal(truth.labels, dirty.labels)
    first_row: dict[bytes, int] = {}
    first = [first_row.setdefault(picture.tobytes(), row) for row, picture in enumerate(as_array(dirty))]
    repeats = np.array(first) != np.arange(200)
    labels_of = {row: set(dirty.labels[np.array(first) == row].tolist()) for row in set(first)}
    under_many = np.array([len(labels_of[row]) > 1 for row in first])
    np.testing.assert_array_equal(under_many, truth.non_cells)
    np.testing.assert_array_equal(repeats & ~under_many, truth.copies)
    assert truth.copies.sum() == 8
    np.testing.assert_array_equal(first, np.where(truth.non_cells, first, truth.shows))


def test_the_non_cells_stand_under_every_label_and_the_classes_are_uneven() -> None:
    truth = planted(1200, seed=0)
    for shown, per_label in ((-1, 18), (-2, 3)):
        assert np.bincount(truth.labels[truth.shows == shown], minlength=8).tolist() == [per_label] * 8
    cells = np.bincount(truth.labels[~truth.non_cells], minlength=8)
    assert cells.min() > 50
    assert cells.max() > 2 * cells.min()


def test_a_dirty_sample_differs_from_a_clean_one_only_where_it_is_planted_or_relabelled(dirty: Cells) -> None:
    clean, truth = draw_cells(200, seed=2, size=24), planted(200, seed=2)
    same = (clean.labels == dirty.labels) & ~truth.non_cells & ~truth.copies
    assert same.sum() > 5
    np.testing.assert_array_equal(as_array(clean)[same], as_array(dirty)[same])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "0 pictures were asked for"),
        ({"count": 8, "seed": -1}, "seed -1 was given"),
        ({"count": 8, "size": 8}, "24 to 512 pixels"),
        ({"count": 40, "dirty": True}, "need 100 rows or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_cells(**arguments)


def test_a_field_shows_red_cells_or_the_empty_slide_and_nothing_stained(sample: Cells) -> None:
    empty = np.stack([photograph_field(Draws(3, row), 48, red_cells=False) for row in range(20)])
    red = np.stack([photograph_field(Draws(3, row), 48, red_cells=True) for row in range(20)])
    assert empty.shape == (20, 48, 48, 3)
    np.testing.assert_array_equal(empty[4], photograph_field(Draws(3, 4), 48, red_cells=False))

    def contrasts(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """How many grey levels the darkest red of each picture lies below its brightest."""
        smooth = ndimage.uniform_filter(images[..., 0].astype(np.float64), (0, 5, 5))
        return np.asarray(np.ptp(smooth.reshape(len(images), -1), axis=1))

    cells = contrasts(np.asarray(sample.images[:40]))
    assert contrasts(empty).max() < np.median(contrasts(red)) < np.median(cells) / 2
    middles = red[:, 20:28, 20:28].reshape(20, -1, 3).mean(1)
    grounds = np.percentile(red.reshape(20, -1, 3), 98, axis=1)
    assert ((grounds - middles)[:, 1] > 20).any(), "red cells lie in the middle too"
