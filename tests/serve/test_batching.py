from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from hemascope.data import Images
from hemascope.runtime import Answers
from hemascope.serve.batching import Batcher, FullError


def numbered(pictures: Images, heatmap: bool) -> Answers:
    """Answers that tell which picture they belong to: its first pixel."""
    first = pictures[:, 0, 0, 0].astype(np.float32)
    return Answers(
        np.stack([first, -first], 1),
        first,
        np.zeros((len(first), 2), np.float32),
        pictures[..., 0].astype(np.float32) if heatmap else None,
    )


def pictures(*numbers: int) -> Images:
    return np.stack([np.full((4, 4, 3), number, np.uint8) for number in numbers])


def test_every_picture_gets_its_own_answer_whatever_batches_it_came_in() -> None:
    sizes: list[int] = []
    held = threading.Event()

    def ask(images: Images, heatmap: bool) -> Answers:
        held.wait(5)
        return numbered(images, heatmap)

    batcher = Batcher(ask, queue=100, patience=9, batch=8, watch=lambda count, seconds: sizes.append(count))
    jobs = [list(range(start, start + count)) for start, count in ((0, 3), (10, 20), (40, 1), (50, 7))]
    futures = []
    for job in jobs:
        batcher.reserve(len(job))
        futures.append(batcher.submit(pictures(*job)))
    held.set()
    for job, future in zip(jobs, futures, strict=True):
        assert future.result(5).outlier_score.tolist() == job
        batcher.release(len(job))
    batcher.close()
    assert sum(sizes) == 31
    assert max(sizes) == 8
    assert batcher.waiting == 0


def test_nobody_gets_a_heat_map_who_did_not_ask() -> None:
    batcher = Batcher(numbered, queue=10, patience=9)
    plain, mapped = batcher.submit(pictures(1, 2)), batcher.submit(pictures(3), heatmap=True)
    assert plain.result(5).heatmap is None
    heatmap = mapped.result(5).heatmap
    assert heatmap is not None
    assert heatmap.shape == (1, 4, 4)
    batcher.close()


def test_a_full_queue_refuses_and_an_empty_one_takes_anything() -> None:
    batcher = Batcher(numbered, queue=10, patience=9)
    batcher.reserve(20)
    with pytest.raises(FullError) as refused:
        batcher.reserve(1)
    assert refused.value.seconds >= 1
    with pytest.raises(FullError):
        batcher.check()
    batcher.release(20)
    batcher.reserve(10)
    batcher.close()


def test_a_slow_model_has_a_shorter_queue() -> None:
    def slow(images: Images, heatmap: bool) -> Answers:
        time.sleep(0.08)
        return numbered(images, heatmap)

    batcher = Batcher(slow, queue=1000, patience=0.5, batch=4)
    assert batcher.room == 1000
    batcher.submit(pictures(*range(16))).result(5)
    batcher.close()
    # Four pictures in 0.08 s are 50 a second, and half a second of them 25.
    assert 4 <= batcher.room <= 25


def test_what_fails_is_told_to_those_who_asked_and_the_rest_goes_on() -> None:
    def picky(images: Images, heatmap: bool) -> Answers:
        if images[0, 0, 0, 0] == 7:
            raise RuntimeError("no sevens")
        return numbered(images, heatmap)

    batcher = Batcher(picky, queue=10, patience=9, batch=2)
    bad = batcher.submit(pictures(7, 7, 7, 7, 7))
    with pytest.raises(RuntimeError, match="no sevens"):
        bad.result(5)
    assert batcher.submit(pictures(1)).result(5).outlier_score.tolist() == [1]
    batcher.close()


def test_closing_answers_what_was_accepted_and_takes_no_more() -> None:
    def slow(images: Images, heatmap: bool) -> Answers:
        time.sleep(0.05)
        return numbered(images, heatmap)

    batcher = Batcher(slow, queue=50, patience=9, batch=2)
    futures = [batcher.submit(pictures(number)) for number in range(8)]
    batcher.close()
    assert [future.result(0).outlier_score.tolist() for future in futures] == [[number] for number in range(8)]
    with pytest.raises(FullError):
        batcher.reserve(1)


def test_who_went_away_is_not_answered() -> None:
    held, asked = threading.Event(), []

    def ask(images: Images, heatmap: bool) -> Answers:
        held.wait(5)
        asked.extend(images[:, 0, 0, 0].tolist())
        return numbered(images, heatmap)

    batcher = Batcher(ask, queue=10, patience=9, batch=1)
    first, gone, last = (batcher.submit(pictures(number)) for number in (1, 2, 3))
    time.sleep(0.05)
    assert gone.cancel()
    held.set()
    assert last.result(5).outlier_score.tolist() == [3]
    assert first.result(5).outlier_score.tolist() == [1]
    batcher.close()
    assert asked == [1, 3]


def test_a_crowd_is_told_to_stay_away_for_longer() -> None:
    batcher = Batcher(numbered, queue=10, patience=9, rate=10)
    batcher.reserve(10)
    waits = []
    for _ in range(1000):
        with pytest.raises(FullError) as refused:
            batcher.reserve(10)
        waits.append(refused.value.seconds)
    assert waits[0] < 2
    assert waits == sorted(waits)
    assert waits[-1] == 30
    batcher.release(10)
    batcher.close()


def test_several_threads_answer_parts_of_one_request_in_its_order() -> None:
    working = threading.Barrier(2, timeout=5)

    def ask(images: Images, heatmap: bool) -> Answers:
        working.wait()
        # What begins first ends last.
        time.sleep(0.05 if images[0, 0, 0, 0] == 0 else 0)
        return numbered(images, heatmap)

    batcher = Batcher(ask, queue=100, patience=9, batch=4, workers=2)
    assert batcher.submit(pictures(*range(8))).result(5).outlier_score.tolist() == list(range(8))
    batcher.close()


def test_a_request_fails_once_though_several_of_its_parts_fail() -> None:
    working = threading.Barrier(2, timeout=5)

    def ask(images: Images, heatmap: bool) -> Answers:
        if len(images) == 4:
            working.wait()
            raise RuntimeError("no fours")
        return numbered(images, heatmap)

    batcher = Batcher(ask, queue=100, patience=9, batch=4, workers=2)
    with pytest.raises(RuntimeError, match="no fours"):
        batcher.submit(pictures(*range(8))).result(5)
    assert batcher.submit(pictures(9)).result(5).outlier_score.tolist() == [9]
    batcher.close()
