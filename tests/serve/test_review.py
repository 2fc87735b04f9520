from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from hemascope.audit import read_decisions
from hemascope.data import Cells
from hemascope.serve.desk import Desk, Item, Picture, SpotDesk
from hemascope.serve.review import make_review
from hemascope.synthetic import draw_cells

OWN = {"x-hemascope-review": "1"}


@pytest.fixture
def cells() -> Cells:
    return draw_cells(6, seed=2, size=32)


@pytest.fixture
def client(cells: Cells, tmp_path: Path) -> Iterator[TestClient]:
    item = Item("outlier", (Picture("18446744073709551615", 3, ("a#3",), 1, ("monocyte",), "", "look", "far off"),))
    spot = SpotDesk(tmp_path / "spot.csv", cells, [0, 1], ["monocyte", "platelet"])
    app = make_review(cells, [item], Desk(tmp_path / "decisions.csv", cells.class_names), spot)
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def test_pictures_are_those_of_the_data_and_no_others(client: TestClient, cells: Cells) -> None:
    answer = client.get("/v1/review/pictures/3")
    assert np.array_equal(np.asarray(Image.open(BytesIO(answer.content))), cells.images[3])
    for row in ("6", "-1", "99999999999999999999", "..%2f..%2fetc%2fpasswd"):
        assert client.get(f"/v1/review/pictures/{row}").status_code in (404, 422)


def test_a_decision_is_on_the_disk_when_it_is_answered(client: TestClient, tmp_path: Path) -> None:
    told = client.get("/v1/review").json()
    key = told["items"][0]["pictures"][0]["key"]
    answer = client.post("/v1/review/decisions", json={"key": key, "decision": "drop"}, headers=OWN)
    assert answer.json()["decisions"] == {key: {"decision": "drop", "label": ""}}
    table = read_decisions(tmp_path / "decisions.csv")
    assert table["pixel_hash"].tolist() == [18446744073709551615]
    undone = client.post("/v1/review/undo", json={}, headers=OWN).json()
    assert (undone["key"], undone["decisions"]) == (key, {})


@pytest.mark.parametrize(
    "content",
    [
        {"key": "5", "decision": "drop"},
        {"key": "18446744073709551615", "decision": "burn"},
        {"key": "18446744073709551615", "decision": "relabel", "label": "blast"},
        {"decision": "drop"},
        [],
    ],
)
def test_what_is_no_decision_is_refused_in_a_sentence(client: TestClient, content: object, tmp_path: Path) -> None:
    answer = client.post("/v1/review/decisions", json=content, headers=OWN)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith(".")
    assert not (tmp_path / "decisions.csv").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**OWN, "origin": "https://evil.example"},
        {**OWN, "host": "evil.example:8001"},
        {**OWN, "sec-fetch-site": "cross-site"},
    ],
)
def test_other_pages_decide_nothing(client: TestClient, headers: dict[str, str], tmp_path: Path) -> None:
    content = {"key": "18446744073709551615", "decision": "drop"}
    assert client.post("/v1/review/decisions", json=content, headers=headers).status_code == 403
    assert not (tmp_path / "decisions.csv").exists()


def test_the_spot_check_tells_the_label_once_it_is_named(client: TestClient) -> None:
    key = client.get("/v1/review").json()["spot"]["pictures"][0]["key"]
    told = client.post("/v1/review/spot", json={"key": key, "label": "monocyte"}, headers=OWN).json()["spot"]
    assert [picture["label"] for picture in told["pictures"]] == ["monocyte", None]
    assert told["result"]["agreed"] == 1
    assert client.post("/v1/review/spot", json={"key": "1", "label": "monocyte"}, headers=OWN).status_code == 422
