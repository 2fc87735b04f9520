"""Names of cells: what is known, what is refused, and how the map overrides."""

from __future__ import annotations

import pytest

from hemascope.data import CLASS_NAMES, class_of
from hemascope.data.classes import SYNONYMS, label_table, nearest, new_classes, with_eight
from hemascope.errors import InputError


def test_the_order_is_that_of_bloodmnist() -> None:
    assert CLASS_NAMES == (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    )


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("basophil", "basophil"),
        ("Basophils", "basophil"),
        ("BA", "basophil"),
        ("EO", "eosinophil"),
        ("Eosinophilic_Granulocytes", "eosinophil"),
        ("ERB", "erythroblast"),
        ("normoblast", "erythroblast"),
        ("nRBC", "erythroblast"),
        ("basophilic erythroblast", "erythroblast"),
        ("ig", "immature granulocyte"),
        ("Immature-Granulocytes", "immature granulocyte"),
        ("immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "immature granulocyte"),
        ("metamyelocyte", "immature granulocyte"),
        ("Myelocytes", "immature granulocyte"),
        ("PMY", "immature granulocyte"),
        ("LY", "lymphocyte"),
        ("monocytes", "monocyte"),
        ("MO", "monocyte"),
        ("BNE", "neutrophil"),
        ("SNE", "neutrophil"),
        ("Neutrophil (band)", "neutrophil"),
        ("segmented neutrophils", "neutrophil"),
        ("NEU", "neutrophil"),
        ("PLATELET", "platelet"),
        ("thrombocytes", "platelet"),
        ("03_lymphocyte", "lymphocyte"),
    ],
)
def test_usual_names_are_known(name: str, cell: str) -> None:
    assert class_of(name) == cell


@pytest.mark.parametrize(
    "name",
    ["blast", "myeloblast", "lymphoblast", "promonocyte", "atypical lymphocyte", "plasma cell", "smudge", "rbc", ""],
)
def test_what_is_not_one_of_the_eight_is_not_matched(name: str) -> None:
    assert class_of(name) is None


def test_no_name_means_two_cells() -> None:
    for cell, names in SYNONYMS.items():
        for name in (cell, *names):
            assert class_of(name) == cell


def test_labels_follow_the_canonical_order_whatever_the_order_of_the_names() -> None:
    assert label_table(["platelet", "BA", "SNE"], None, "x") == {"platelet": 7, "BA": 0, "SNE": 6}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"cells\.csv: 'neutrofil' .* nearest is neutrophil.*--map neutrofil=neutrophil"
    ):
        label_table(["basophil", "neutrofil"], None, "cells.csv")


def test_a_name_far_from_all_is_refused_with_the_eight() -> None:
    with pytest.raises(InputError, match="the eight are basophil, eosinophil") as refusal:
        label_table(["xyz"], None, "cells.csv")
    assert "--map xyz=CELL" in str(refusal.value)


@pytest.mark.parametrize(("name", "near"), [("myeloblast", False), ("lymphoblasts", False), ("erytroblast", True)])
def test_a_blast_is_not_taken_for_a_spelling_mistake(name: str, near: bool) -> None:
    with pytest.raises(InputError, match="the nearest is erythroblast" if near else "the eight are"):
        label_table([name], None, "x")


def test_a_map_entry_with_spaces_is_shown_in_quotes() -> None:
    with pytest.raises(InputError, match='give --map "immature granulocite=immature granulocyte", otherwise'):
        label_table(["immature granulocite"], None, "x")


def test_the_map_decides_what_is_not_known_and_overrides_what_is() -> None:
    table = label_table(["Blast", "myelocyte"], {"blast": "IG", "myelocyte": "neutrophil"}, "x")
    assert table == {"Blast": 3, "myelocyte": 6}


def test_the_map_cannot_name_a_cell_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"--map A=neutrofil: .* did you mean neutrophil\?"):
        label_table(["A"], {"A": "neutrofil"}, "x")


def test_numbers_are_labels_in_the_canonical_order_and_may_be_mapped() -> None:
    assert label_table(["0", "7", "12"], {"12": "monocyte"}, "x") == {"0": 0, "7": 7, "12": 5}


@pytest.mark.parametrize("label", ["8", "-1"])
def test_a_number_outside_is_refused(label: str) -> None:
    with pytest.raises(InputError, match=rf"label {label} is not one of 0 to 7"):
        label_table(["1", label], None, "x")


def test_nearest_ignores_case_and_gives_up_when_nothing_is_near() -> None:
    assert nearest("PATIENT", ["patient_id", "slide"]) == "patient_id"
    assert nearest("qqq", ["patient_id", "slide"]) is None


NINE = (*CLASS_NAMES, "blast")


def test_a_further_class_is_known_by_its_name_alone() -> None:
    names = ["Blasts", "platelet", "SNE"]
    assert label_table(names, None, "x", NINE) == {"Blasts": 8, "platelet": 7, "SNE": 6}
    assert label_table(["myeloblast", "3"], {"myeloblast": "blast", "3": "blast"}, "x", NINE) == {
        "myeloblast": 8,
        "3": 8,
    }
    with pytest.raises(InputError, match=r"not the name of one of the eight cells.* --new-class blast\.$"):
        label_table(["blast"], None, "x")


def test_a_spelling_mistake_is_no_further_class() -> None:
    with pytest.raises(InputError, match=r"the nearest is lymphocyte: .* --map lymphocite=lymphocyte"):
        label_table(["lymphocite"], None, "x", NINE)
    with pytest.raises(InputError, match="one of the 9 classes; the nearest is blast"):
        label_table(["blasst"], None, "x", NINE)
    with pytest.raises(InputError, match="'blsat' is not one of the 9 classes; did you mean blast"):
        label_table(["A"], {"A": "blsat"}, "x", NINE)


def test_what_one_of_the_eight_covers_may_become_a_class_of_its_own() -> None:
    classes = with_eight(("platelet", "promyelocyte"))
    assert classes == (*CLASS_NAMES, "promyelocyte")
    assert label_table(["promyelocytes", "myelocyte"], None, "x", classes) == {"promyelocytes": 8, "myelocyte": 3}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Lymphocytes", "is the class lymphocyte, which is known already"),
        ("Blast", "is the class blast, which is known already"),
        (" ", "is no name; give one with letters in it"),
        ("12", "is no name"),
        ("a\nb", "is no name"),
    ],
)
def test_a_new_class_needs_a_name_that_is_new(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        new_classes([name], NINE)
    assert new_classes([" promonocyte", "smudge cell"], NINE) == ("promonocyte", "smudge cell")
