from __future__ import annotations

import json

import pytest

from hemascope.field import FieldOfView
from hemascope.runtime import load_model


def test_a_field_is_told_in_micrometres_and_in_red_cells() -> None:
    field = FieldOfView(30.0)
    assert field.red_cell_diameters == pytest.approx(4)
    assert field.sentence() == "a picture is 30 micrometres wide, 4.0 red cells"
    assert FieldOfView.from_json(json.loads(json.dumps(field.as_json()))) == field


def test_the_shipped_model_states_its_field() -> None:
    field = load_model("small").field
    assert field is not None
    assert 2.4 < field.red_cell_diameters < 3.0
