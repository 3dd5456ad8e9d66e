"""math-verify behind a deadline: a worker process that is killed and replaced when it overruns.

No answer, however hostile, can hang or end the run; what overruns is reported as a timeout.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from enum import StrEnum
from functools import cache
from importlib.metadata import version

from sdbench.errors import GradingError

STARTUP_SECONDS = 120.0
LONGEST_ANSWER = 10_000


class Finding(StrEnum):
    """What the worker found."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"


@cache
def verifier() -> str:
    """Name and version of what decides."""
    return f"math-verify/{version('math-verify')}"


class SymbolicWorker:
    """One worker process, started when first asked.

    Args:
        timeout_seconds: Deadline of one comparison.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._process: subprocess.Popen[str] | None = None

    def compare(self, gold: str, answer: str) -> Finding:
        """Compares two answers by algebra.

        Raises:
            GradingError: the worker does not start.
        """
        if len(answer) > LONGEST_ANSWER:
            return Finding.UNPARSABLE
        process = self._process or self._start()
        reply = self._ask(process, json.dumps({"gold": gold, "answer": answer}), self._timeout)
        if reply is None:
            self.close()
            return Finding.TIMEOUT
        equal = reply["equal"]
        if equal is None:
            return Finding.UNPARSABLE
        return Finding.EQUAL if equal else Finding.DIFFERENT

    def close(self) -> None:
        """Kills the worker; the next comparison starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sdbench.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process = process
        if self._ask(process, "", STARTUP_SECONDS) is None:
            self.close()
            raise GradingError("the grading worker did not start", hint="is math-verify installed?")
        return process

    @staticmethod
    def _ask(
        process: subprocess.Popen[str], question: str, seconds: float
    ) -> dict[str, bool | None] | None:
        """The reply to a question (or to nothing, at start); None if it is late or never comes."""
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        try:
            if question:
                process.stdin.write(question + "\n")
                process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(seconds):
                    return None
            line = process.stdout.readline()
        except BrokenPipeError:
            return None
        reply: dict[str, bool | None] | None = json.loads(line) if line else None
        return reply
