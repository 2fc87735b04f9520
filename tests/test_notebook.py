"""The notebook of the documentation runs from top to bottom, in a kernel of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def printed(cell: Any) -> str:
    """All that a cell of code gave as text."""
    texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"])
    return "".join(texts)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    asyncio.run(client.async_execute())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    told = [printed(cell) for cell in code]
    assert "exact copies of another row" in told[1]
    assert "report.html" in told[2]
    assert "95% interval" in told[3]
    assert told[4].count("severity") == 3
    assert "outlier" in told[-1]
    assert not list(tmp_path.iterdir()), "the notebook writes into a folder of its own"


def test_what_the_notebook_shows_is_what_it_gave() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom and save it"
    kept = str([cell.get("outputs") for cell in notebook["cells"]])
    assert "image/png" not in kept
    assert "stderr" not in kept, "warnings tell of the machine that it ran on; leave them out"
