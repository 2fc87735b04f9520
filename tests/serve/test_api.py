from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from hemascope.data import Cells, Images
from hemascope.predict import predict
from hemascope.runtime import Answers, Model, load_model
from hemascope.serve.answers import ModelAbout
from hemascope.serve.api import make_app
from hemascope.serve.limits import Limits
from hemascope.synthetic import draw_cells

FORM = {"content-type": "multipart/form-data; boundary=b"}


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def cells() -> Cells:
    return draw_cells(24, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("small")


def client_of(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[TestClient]:
    with client_of(make_app(model)) as client:
        yield client


def form(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("pictures", (f"{place}.png", content, "image/png")) for place, content in enumerate(contents)]


def test_answers_are_those_of_the_command_line(client: TestClient, model: Model, cells: Cells, tmp_path: Path) -> None:
    # Pictures of several sizes and shapes, as people bring them.
    drawn = [np.asarray(cells.images[row]) for row in range(6)]
    large = np.asarray(draw_cells(2, seed=4, size=160).images)
    contents = [*map(encoded, drawn), encoded(large[0]), encoded(large[1][:, 20:])]
    paths = [tmp_path / f"{place}.png" for place in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    told = client.post("/v1/predict", files=form(*contents)).json()
    expected = predict(model, paths)
    assert [picture["name"] for picture in told["pictures"]] == [path.name for path in paths]
    assert [picture["label"] for picture in told["pictures"]] == expected["label"].tolist()
    for picture, (_, row) in zip(told["pictures"], expected.iterrows(), strict=True):
        for name in model.class_names:
            assert picture["probabilities"][name] == pytest.approx(row[name], abs=1e-5)
        assert picture["trust"] is (not picture["why"])
        assert picture["error"] is None
    assert "not a medical device" in told["purpose"]


def test_one_picture_may_come_as_it_is(client: TestClient, cells: Cells) -> None:
    content = encoded(cells.images[0], "JPEG")
    raw = client.post("/v1/predict", content=content, headers={"content-type": "image/jpeg"}).json()["pictures"]
    sent = client.post("/v1/predict", files=form(content)).json()["pictures"]
    assert raw[0]["probabilities"] == sent[0]["probabilities"]


def test_a_bad_picture_spoils_no_other(client: TestClient, cells: Cells) -> None:
    good = encoded(cells.images[0])
    answer = client.post("/v1/predict", files=form(good, b"no picture", good[:200], encoded(np.zeros((4, 4, 3), "u1"))))
    assert answer.status_code == 200
    first, *rest = answer.json()["pictures"]
    assert first["label"]
    assert [picture["label"] for picture in rest] == [None] * 3
    assert "not a picture of a known format" in rest[0]["error"]
    assert "damaged" in rest[1]["error"]
    assert "4 x 4" in rest[2]["error"]


def test_nothing_that_can_be_decoded_is_422_with_each_reason(client: TestClient) -> None:
    answer = client.post("/v1/predict", files=form(b"no", b""))
    assert answer.status_code == 422
    assert "none of the 2 pictures" in answer.json()["error"]
    assert [bool(picture["error"]) for picture in answer.json()["pictures"]] == [True, True]


def bomb() -> bytes:
    """A small file that decodes to 36 million pixels."""
    return encoded(Image.new("1", (6_000, 6_000)))


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"--b--\r\n", FORM, 422, "no picture"),
        (b"nonsense", FORM, 400, "no multipart form"),
        (b"--b\r\ncontent-disposition: form-data; name=p; filename=f\r\n\r\nabc", FORM, 400, "ends early"),
        (b"--b\r\ncontent-disposition: form-data; name=p\r\n\r\nabc\r\n--b--\r\n", FORM, 422, "is no file"),
        (b"--b\r\nx: " + b"y" * 5000 + b"\r\n\r\nabc\r\n--b--\r\n", FORM, 400, "form"),
        (b"abc", {"content-type": "multipart/form-data"}, 400, "boundary"),
        (b"", {"content-type": "image/png"}, 422, "no picture"),
        (b"{}", {"content-type": "application/json"}, 415, "application/json"),
        (b"abc", {}, 415, "expected multipart/form-data"),
    ],
)
def test_bodies_that_are_nothing_are_refused(
    client: TestClient, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = client.post("/v1/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_bomb_is_refused_undecoded(client: TestClient) -> None:
    content = bomb()
    assert len(content) < 100_000
    answer = client.post("/v1/predict", files=form(content))
    assert answer.status_code == 422
    assert "more than the 4 million" in answer.json()["pictures"][0]["error"]


def test_limits_hold(model: Model, cells: Cells) -> None:
    content = encoded(cells.images[0])
    limits = Limits(files=2, bytes_each=len(content), bytes_request=3 * len(content), queue=2)
    with client_of(make_app(model, limits=limits)) as client:
        assert client.post("/v1/predict", files=form(content, content)).status_code == 200
        many = client.post("/v1/predict", files=form(*[content[:100]] * 3))
        large = client.post("/v1/predict", files=form(content + b"0"))
        declared = client.post("/v1/predict", files=form(*[content] * 4))
        streamed = client.post(
            "/v1/predict", content=iter([content] * 4), headers={"content-type": "application/octet-stream"}
        )
    for answer, words in ((many, "more than 2"), (large, "MiB"), (declared, "bytes"), (streamed, "bytes")):
        assert answer.status_code == 413
        assert words in answer.json()["error"]


def test_no_memory_is_held_after_an_answer_whatever_it_was(client: TestClient, cells: Cells) -> None:
    client.post("/v1/predict", files=form(encoded(cells.images[0]), b"bad"))
    client.post("/v1/predict", content=b"--b\r\nnonsense", headers=FORM)
    text = client.get("/metrics").text
    assert "hemascope_upload_bytes 0" in text
    assert "hemascope_queue_pictures 0" in text


def test_nothing_is_written_to_disk(
    client: TestClient, cells: Cells, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    large = encoded(np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8))
    assert len(large) > 2**20  # where Starlette begins to use a file
    assert client.post("/v1/predict", files=form(large)).status_code == 200
    assert not (tmp_path / "missing").exists()


def test_a_full_service_says_when_to_come_again(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("small")
    held, started, inner = threading.Event(), threading.Event(), model.answers

    def slow(images: Images, heatmap: bool = False) -> Answers:
        if images.any():  # the black pictures that a service starts with are not held up
            started.set()
            held.wait(20)
        return inner(images, heatmap)

    monkeypatch.setattr(model, "answers", slow)
    content = encoded(cells.images[0])
    with client_of(make_app(model, limits=Limits(files=4, queue=4))) as client:
        codes: list[int] = []
        first = threading.Thread(
            target=lambda: codes.append(client.post("/v1/predict", files=form(*[content] * 4)).status_code)
        )
        first.start()
        assert started.wait(20)
        refused = client.post("/v1/predict", files=form(content))
        assert client.get("/healthz").status_code == 200  # the service itself is not held up
        held.set()
        first.join()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert codes == [200]
        assert client.post("/v1/predict", files=form(content)).status_code == 200


def test_uploads_share_a_bounded_memory(model: Model, cells: Cells) -> None:
    content = encoded(cells.images[0])
    with client_of(make_app(model, limits=Limits(bytes_together=len(content) - 1))) as client:
        answer = client.post("/v1/predict", content=content, headers={"content-type": "image/png"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def test_a_token_guards_all_but_the_page(model: Model, cells: Cells) -> None:
    with client_of(make_app(model, token="secret")) as client:
        assert client.get("/").status_code == 200
        assert client.get("/healthz").status_code == 200
        for refused in (client.get("/v1/model"), client.get("/metrics"), client.post("/v1/predict", content=b"")):
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        bearer = {"authorization": "Bearer secret"}
        assert client.get("/v1/model", headers=bearer).status_code == 200
        assert client.post("/v1/predict", files=form(encoded(cells.images[0])), headers=bearer).status_code == 200


def test_the_model_says_what_it_is(client: TestClient, model: Model) -> None:
    told = client.get("/v1/model").json()
    assert told["classes"] == list(model.class_names)
    assert len(told["sha256"]) == 64
    assert told["limits"]["pixels"] == 4_000_000
    assert told["thresholds"]
    ModelAbout.model_validate(told)


def test_heat_maps_come_where_they_are_asked_for(cells: Cells) -> None:
    model = load_model("small")
    content = encoded(cells.images[0])
    expected = model.answers(cells.images[:1], heatmap=True).heatmap
    assert expected is not None
    with client_of(make_app(model)) as client:
        assert client.post("/v1/predict", files=form(content)).json()["pictures"][0]["heatmap"] is None
        address = client.post("/v1/predict?heatmap=1", files=form(content)).json()["pictures"][0]["heatmap"]
    grey = np.asarray(Image.open(BytesIO(b64decode(address.partition(",")[2]))))
    assert grey.shape == expected.shape[1:]
    assert np.abs(grey / 255 - expected[0]).max() <= 1 / 255


def test_a_model_without_heat_maps_says_so(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("small")
    monkeypatch.setattr(model, "explains", False)
    with client_of(make_app(model)) as client:
        refused = client.post("/v1/predict?heatmap=1", files=form(encoded(cells.images[0])))
    assert refused.status_code == 422
    assert "no heat maps" in refused.json()["error"]


def test_what_no_number_can_say_is_null(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("small")
    inner = model.answers
    monkeypatch.setattr(
        model, "answers", lambda images, heatmap=False: inner(images)._replace(outlier_score=np.full(1, np.nan, "f4"))
    )
    with client_of(make_app(model)) as client:
        answer = client.post("/v1/predict", files=form(encoded(cells.images[0])))
    assert answer.status_code == 200
    assert answer.json()["pictures"][0]["outlier_score"] is None


def test_what_is_counted_agrees_with_what_was_asked(model: Model, cells: Cells) -> None:
    with client_of(make_app(model, name="mine")) as client:
        told = client.post("/v1/predict", files=form(*(encoded(cells.images[row]) for row in range(5)), b"bad")).json()
        client.get("/v1/nothing")
        text = client.get("/metrics").text
    doubted = sum(picture["trust"] is False for picture in told["pictures"])
    assert 'hemascope_pictures_total{outcome="answered"} 5' in text
    assert 'hemascope_pictures_total{outcome="unreadable"} 1' in text
    assert f"hemascope_abstained_total {doubted}" in text
    assert "hemascope_predict_seconds_count 1" in text
    assert 'hemascope_requests_total{path="other",status="404"} 1' in text
    assert f'hemascope_model_info{{name="mine",sha256="{told["model"]["sha256"]}"' in text


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in ("app.js", "send.js", "cards.js", "gather.js", "make.js", "table.js", "pages.css", "page.css"):
        file = client.get(f"/assets/{name}")
        assert file.status_code == 200
        assert "http://" not in file.text
        assert "https://" not in file.text
        again = client.get(f"/assets/{name}", headers={"if-none-match": file.headers["etag"]})
        assert again.status_code == 304
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert " on" + "click=" not in page.text
    for missing in ("/assets/nothing.js", "/assets/..%2Fapi.py", "/assets/%2e%2e/api.py"):
        assert client.get(missing).status_code == 404


def test_every_status_is_in_the_description(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    responses = described["paths"]["/v1/predict"]["post"]["responses"]
    assert {"200", "400", "401", "403", "408", "413", "415", "422", "429"} <= set(responses)
    assert "multipart/form-data" in described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(described["paths"]) == {"/v1/predict", "/v1/model", "/healthz", "/metrics"}


def test_what_goes_wrong_inside_is_500_without_its_details(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("small")
    inner = model.answers

    def broken(images: Images, heatmap: bool = False) -> Answers:
        if images.any():
            raise RuntimeError("the secret of the cellar")
        return inner(images, heatmap)

    monkeypatch.setattr(model, "answers", broken)
    with client_of(make_app(model)) as client:
        answer = client.post("/v1/predict", files=form(encoded(cells.images[0])))
        assert answer.status_code == 500
        assert "cellar" not in answer.text
        assert "hemascope_queue_pictures 0" in client.get("/metrics").text
