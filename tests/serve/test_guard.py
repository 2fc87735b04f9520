from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from hemascope.serve.guard import Gate, is_loopback


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "LOCALHOST"])
def test_this_machine_is_answered(host: str) -> None:
    assert Gate().refusal("GET", "/", Headers({"host": host})) is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil", ""])
def test_a_foreign_name_for_this_machine_is_refused(host: str) -> None:
    refused = Gate().refusal("GET", "/", Headers({"host": host}))
    assert refused is not None
    assert refused[0] == 403


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "http://localhost:9000"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[broken"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
    ],
)
def test_pages_of_other_sites_may_not_post(headers: dict[str, str], answered: bool) -> None:
    refused = Gate().refusal("POST", "/v1/predict", Headers({"host": "localhost:8000", **headers}))
    assert (refused is None) == answered


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ("Bearer secret", True),
        ("bearer secret", True),
        ("Bearer Secret", False),
        ("Basic secret", False),
        ("secret", False),
        ("Bearer sécret", False),
        ("", False),
    ],
)
def test_the_token_opens(given: str, answered: bool) -> None:
    gate = Gate(token="secret", open_paths={"/"})
    refused = gate.refusal("GET", "/v1/model", Headers({"host": "localhost", "authorization": given}))
    assert (refused is None) == answered
    assert refused is None or refused[0] == 401
    assert gate.refusal("GET", "/", Headers({"host": "localhost"})) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("host", False)],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
