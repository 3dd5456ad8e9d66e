"""Worker processes behind a deadline: what overruns is killed, and its worker replaced.

In go pairs of canonical answers, out comes a `Finding` for each. Workers are started with exec, not
forked, so that threads and torch in the parent do not matter; they start when there is something to
ask, and no signal handler is set in the parent. No answer, however hostile, hangs or ends the run:
it is a timeout.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sdbench.errors import GradingError
from sdbench.grading.worker import Finding

STARTUP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two canonical answers to compare."""

    gold: str
    answer: str


@dataclass(slots=True)
class _Worker:
    """A process, and the index of the pair it works on; while it starts it works on none."""

    process: subprocess.Popen[str]
    deadline: float
    ready: bool = False
    asked: int | None = None


class WorkerPool:
    """Compares pairs in worker processes.

    Args:
        timeout_seconds: Deadline of one comparison, not counting the start of a worker.
        workers: The most processes at a time.
        memory_bytes: Limit of each worker's address space.
    """

    def __init__(self, timeout_seconds: float, workers: int, memory_bytes: int) -> None:
        self._timeout = timeout_seconds
        self._most = workers
        self._memory = memory_bytes
        self._workers: list[_Worker] = []
        weakref.finalize(self, _end, self._workers)

    def close(self) -> None:
        """Kills and reaps all workers; a later comparison starts new ones."""
        _end(self._workers)

    def compare(self, pairs: Sequence[Pair]) -> list[Finding]:
        """A finding for each pair, in their order.

        Raises:
            GradingError: a worker does not start.
        """
        findings: dict[int, Finding] = {}
        waiting = deque(range(len(pairs)))
        try:
            while len(findings) < len(pairs):
                self._assign(pairs, waiting)
                for worker in self._heard():
                    self._settle(worker, findings)
        except BaseException:
            # A worker that was asked would answer the next comparison with this one's finding.
            self.close()
            raise
        return [findings[index] for index in range(len(pairs))]

    def _assign(self, pairs: Sequence[Pair], waiting: deque[int]) -> None:
        """Asks each idle worker; starts one more where pairs wait and the pool is not full."""
        for worker in [w for w in self._workers if w.ready and w.asked is None]:
            if worker.process.poll() is not None:
                self._remove(worker)
            elif waiting:
                self._ask(worker, waiting.popleft(), pairs)
        starting = sum(not worker.ready for worker in self._workers)
        while starting < len(waiting) and len(self._workers) < self._most:
            self._workers.append(self._start())
            starting += 1

    def _ask(self, worker: _Worker, index: int, pairs: Sequence[Pair]) -> None:
        worker.asked, worker.deadline = index, time.monotonic() + self._timeout
        pair = pairs[index]
        assert worker.process.stdin is not None, "it is a pipe"
        try:
            worker.process.stdin.write(
                json.dumps({"gold": pair.gold, "answer": pair.answer}) + "\n"
            )
            worker.process.stdin.flush()
        except BrokenPipeError:
            worker.deadline = 0.0  # it has died: settled as overdue

    def _heard(self) -> list[_Worker]:
        """Waits until a busy worker has replied or ended, or is overdue."""
        busy = [worker for worker in self._workers if not worker.ready or worker.asked is not None]
        soonest = min(worker.deadline for worker in busy)
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                assert worker.process.stdout is not None, "it is a pipe"
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            ready = selector.select(max(0.0, soonest - time.monotonic()))
        heard: list[_Worker] = [key.data for key, _ in ready]
        now = time.monotonic()
        return heard + [worker for worker in busy if worker not in heard and worker.deadline <= now]

    def _settle(self, worker: _Worker, findings: dict[int, Finding]) -> None:
        finding = self._reply(worker)
        if not worker.ready:
            if finding is not Finding.READY:
                raise GradingError(
                    "a grading worker did not start", hint="is math-verify installed?"
                )
            worker.ready = True
            return
        assert worker.asked is not None, "only busy workers are settled"
        findings[worker.asked] = finding
        worker.asked = None
        if finding in (Finding.TIMEOUT, Finding.EXHAUSTED):
            self._remove(worker)

    @staticmethod
    def _reply(worker: _Worker) -> Finding:
        """What the worker says; a timeout if it is overdue or has ended."""
        assert worker.process.stdout is not None, "it is a pipe"
        with selectors.DefaultSelector() as selector:
            selector.register(worker.process.stdout, selectors.EVENT_READ)
            if not selector.select(0):
                return Finding.TIMEOUT
        line = worker.process.stdout.readline()
        return Finding(json.loads(line)["finding"]) if line else Finding.TIMEOUT

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        _end([worker])

    def _start(self) -> _Worker:
        seconds = math.ceil(self._timeout) + 1
        serve = f"from sdbench.grading.worker import main; main({self._memory}, {seconds})"
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", serve],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return _Worker(process, time.monotonic() + STARTUP_SECONDS)


def _end(workers: list[_Worker]) -> None:
    while workers:
        process = workers.pop().process
        process.kill()
        # Closes the pipes and reaps the process.
        process.communicate()
