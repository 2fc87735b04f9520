"""What the service makes of hostile input: the two parts of bench/serve.py that need no quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent.parent / "bench" / "serve.py"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    words = ["--only", "mutants,schema", "--mutants", "1000", "--examples", "8"]
    done = subprocess.run([sys.executable, BENCH, *words], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_thousand_broken_requests_get_an_answer_and_never_a_500(found: dict[str, Any]) -> None:
    mutants = found["mutants"]
    assert mutants["holds"], mutants
    assert sum(mutants["statuses"].values()) == 1000
    assert set(mutants["statuses"]) <= {"200", "400", "413", "415", "422"}
    # Some of each kind, so that they were broken in more than one way.
    assert min(mutants["statuses"].get(status, 0) for status in ("200", "400", "422")) > 10


def test_schemathesis_finds_nothing_in_what_the_openapi_document_says(found: dict[str, Any]) -> None:
    assert found["schema"] == {"exit_status": 0, "holds": True}
