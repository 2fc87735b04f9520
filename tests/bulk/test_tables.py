from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemascope.bulk.answers import Answered, arrow_table, joined
from hemascope.bulk.tables import WRITERS, check_ending
from hemascope.errors import InputError
from hemascope.runtime import Answers

CLASSES = ("one", "two")


def answered(ids: list[str], errors: list[str]) -> Answered:
    good = errors.count("")
    rng = np.random.default_rng(len(ids))
    share = rng.random(good).astype(np.float32)
    answers = Answers(
        np.stack([share, 1 - share], 1),
        rng.normal(size=good).astype(np.float32),
        rng.normal(size=(good, 3)).astype(np.float32),
    )
    return Answered(ids, answers, ["unreadable" if error else "" for error in errors], errors)


PARTS = [answered(["a", 'b, "ü"\\'], ["", "it is\nempty"]), answered(["c"], ["gone"]), answered(["d", "e"], ["", ""])]


def tables(embedding: bool) -> list[pa.Table]:
    return [arrow_table(part, CLASSES, embedding) for part in PARTS]


@pytest.mark.parametrize("embedding", [False, True])
def test_every_kind_of_table_says_the_same(tmp_path: Path, embedding: bool) -> None:
    for ending, write in WRITERS.items():
        write(iter(tables(embedding)), tmp_path / f"table{ending}")
    parquet = pq.ParquetFile(tmp_path / "table.parquet").read().to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text(encoding="utf-8").splitlines()]
    text = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    whole = joined(PARTS)
    expected = whole.columns(CLASSES, embedding)
    assert list(parquet[0]) == list(lines[0]) == list(expected)
    assert text["id"].tolist() == [row["id"] for row in lines] == [row["id"] for row in parquet] == list(whole.ids)
    assert text["error"].tolist() == [row["error"] for row in lines] == list(whole.errors)
    for row, (exact, rounded) in enumerate(zip(parquet, lines, strict=True)):
        if whole.errors[row]:
            assert (
                exact["label"] is rounded["label"] is exact["one"] is rounded["one"] is exact["outlier_score"] is None
            )
            assert [text[name].tolist()[row] for name in ("label", "one", "outlier_score")] == ["", "", ""]
            assert not embedding or exact["embedding"] is rounded["embedding"] is None
            continue
        assert exact["label"] == CLASSES[int(exact["two"] > exact["one"])] == text.loc[row, "label"]
        assert exact["confidence"] == max(exact["one"], exact["two"])
        for name in ("one", "two", "confidence", "outlier_score"):
            assert rounded[name] == pytest.approx(exact[name], abs=1e-6)
            assert float(str(text.loc[row, name])) == pytest.approx(exact[name], abs=1e-6)
        if embedding:
            found = [float(str(text.loc[row, f"embedding_{place}"])) for place in range(3)]
            assert found == pytest.approx(exact["embedding"], abs=1e-6)
            assert rounded["embedding"] == pytest.approx(exact["embedding"], abs=1e-6)


def test_an_ending_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match=r"ends in '\.xlsx', expected \.csv, \.jsonl, \.parquet, or no ending"):
        check_ending(Path("table.xlsx"))
    check_ending(Path("folder"))
