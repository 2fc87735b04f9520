"""Pictures of all clients, gathered into batches for the threads that ask the model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from hemascope.data import Images
from hemascope.runtime import BATCH, Answers

Ask = Callable[[Images, bool], Answers]
_MEMORY = 0.9  # how much of what was measured is kept from one batch, or one request, to the next
_RECENT = 1.0  # seconds for which a refusal counts as somebody who will come again
_LONGEST = 30.0  # seconds, the most that anybody is told to stay away


@dataclass
class _Job:
    """The pictures of one request, and what is known of them so far."""

    pictures: Images
    heatmap: bool
    future: Future[Answers]
    asked: int = 0
    answered: int = 0
    parts: dict[int, Answers] = field(default_factory=dict)
    """By the row that each begins with, as several threads may answer them."""


class FullError(Exception):
    """There is no room for more pictures now. seconds: after which it is worth trying again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full; try again in {seconds:.0f} s.")
        self.seconds = seconds


class Batcher:
    """A bounded queue before a few worker threads.

    ask: gives the answers to uint8 (n, side, side, 3). queue: pictures that may wait, those that are being decoded and
    answered among them. patience: seconds that a picture may be expected to wait. workers: how many threads ask, each
    about a batch of its own. rate: how many pictures a second they answer together, as far as is known before; 0 for
    unknown. watch: told the size of each batch and the seconds it took.

    Room is taken (`reserve`) before a picture is decoded and given back (`release`) when it is answered, so that no
    more work is accepted than can be done in time. No worker waits for a batch to fill: it takes what is there, and a
    busy service fills its batches by itself.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        queue: int,
        patience: float,
        batch: int = BATCH,
        workers: int = 1,
        rate: float = 0.0,
        watch: Callable[[int, float], None] = lambda pictures, seconds: None,
    ) -> None:
        self._ask, self._queue, self._patience, self._batch, self._watch = ask, queue, patience, batch, watch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._reserved = 0
        self._refused: deque[float] = deque()
        self._usual = 1.0
        self._rate = rate
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"hemascope-model-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many pictures are accepted and not answered."""
        return self._reserved

    @property
    def room(self) -> int:
        """How many pictures may be accepted at a time, as fast as the model is now."""
        return self._queue if not self._rate else min(self._queue, max(self._batch, int(self._rate * self._patience)))

    def reserve(self, pictures: int) -> None:
        """Take room for some pictures. Raises FullError when there is none; an empty queue takes any request."""
        with self._changed:
            if self._closing or (self._reserved and self._reserved + pictures > self.room):
                raise self._full()
            self._reserved += pictures
            self._usual = _MEMORY * self._usual + (1 - _MEMORY) * pictures

    def release(self, pictures: int) -> None:
        """Give room back."""
        with self._changed:
            self._reserved -= pictures

    def check(self) -> None:
        """Raise FullError when not even one more picture would be accepted."""
        with self._changed:
            if self._closing or self._reserved >= self.room:
                raise self._full()

    def submit(self, pictures: Images, heatmap: bool = False) -> Future[Answers]:
        """Answers to uint8 (n, side, side, 3), at least one; all of one side, for which room was reserved."""
        job = _Job(pictures, heatmap, Future())
        with self._changed:
            if self._closing:
                raise self._full()
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Answer what was submitted, take no more, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _full(self) -> FullError:
        """A refusal, with the time after which everybody who waits, and everybody who was refused, could be answered.

        Told only how long the queue is, a crowd would come back at once, and be refused at once.
        """
        now = time.monotonic()
        self._refused.append(now)
        while self._refused[0] < now - _RECENT:
            self._refused.popleft()
        ahead = self._reserved + len(self._refused) * self._usual
        return FullError(min(_LONGEST, max(1.0, ahead / self._rate)) if self._rate else 1.0)

    def _work(self) -> None:
        while taken := self._take():
            self._answer(taken)

    def _take(self) -> list[tuple[_Job, slice]]:
        """The next pictures, up to a batch, as slices of jobs; none when all is done."""
        with self._changed:
            taken: list[tuple[_Job, slice]] = []
            room = self._batch
            while (self._jobs and room) or not (taken or self._closing):
                if not self._jobs:
                    self._changed.wait()
                    continue
                job = self._jobs[0]
                if job.future.cancelled():
                    self._jobs.popleft()
                    continue
                # A heat map costs several times an answer, so nobody gets one who did not ask.
                if taken and job.heatmap != taken[0][0].heatmap:
                    break
                rows = slice(job.asked, min(len(job.pictures), job.asked + room))
                job.asked = rows.stop
                room -= rows.stop - rows.start
                taken.append((job, rows))
                if job.asked == len(job.pictures):
                    self._jobs.popleft()
            # One call wakes one thread, and a large request is work for several.
            if self._jobs:
                self._changed.notify()
            return taken

    def _answer(self, taken: list[tuple[_Job, slice]]) -> None:
        pictures = [job.pictures[rows] for job, rows in taken]
        started = time.perf_counter()
        try:
            answers = self._ask(pictures[0] if len(pictures) == 1 else np.concatenate(pictures), taken[0][0].heatmap)
        except Exception as error:
            self._fail([job for job, _ in taken], error)
            return
        seconds = time.perf_counter() - started
        total = len(answers.probabilities)
        # The first batches are slower than all others, and small ones than large ones.
        if total >= self._batch // 2:
            rate = len(self._threads) * total / max(seconds, 1e-6)
            with self._changed:
                self._rate = _MEMORY * self._rate + (1 - _MEMORY) * rate if self._rate else rate
        self._watch(total, seconds)
        start = 0
        for job, rows in taken:
            end = start + rows.stop - rows.start
            self._keep(job, rows, _rows(answers, slice(start, end)))
            start = end

    def _keep(self, job: _Job, rows: slice, answers: Answers) -> None:
        """Put the answers to some rows of a job to the others, and hand all over when they are complete."""
        with self._changed:
            job.parts[rows.start] = answers
            job.answered += rows.stop - rows.start
            complete = job.answered == len(job.pictures)
        if complete and job.future.set_running_or_notify_cancel():
            job.future.set_result(_joined([job.parts[first] for first in sorted(job.parts)]))

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        """Tell those who asked. What is left of a job that spans batches is not worked on."""
        with self._changed:
            for job in jobs:
                if self._jobs and self._jobs[0] is job:
                    self._jobs.popleft()
                # Another thread may have failed with another part of the same job.
                if not job.future.done() and job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)


def _rows(answers: Answers, rows: slice) -> Answers:
    heatmap = None if answers.heatmap is None else answers.heatmap[rows]
    return Answers(answers.probabilities[rows], answers.outlier_score[rows], answers.embedding[rows], heatmap)


def _joined(parts: list[Answers]) -> Answers:
    if len(parts) == 1:
        return parts[0]
    heatmaps = [part.heatmap for part in parts if part.heatmap is not None]
    return Answers(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.outlier_score for part in parts]),
        np.concatenate([part.embedding for part in parts]),
        np.concatenate(heatmaps) if heatmaps else None,
    )
