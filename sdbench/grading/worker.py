"""The worker process: reads pairs of answers from stdin, writes what it finds to stdout.

In: one JSON line a pair, `{"gold": ..., "answer": ...}`, both canonical. Out: one JSON line a pair,
`{"finding": ...}`, after a first one that says it is ready. The parent keeps the deadline and
kills. The memory limit is set here; so is a limit on processor time for each pair, which ends a
worker whose parent has died.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from enum import StrEnum
from typing import TextIO


class Finding(StrEnum):
    """What a worker finds, or what became of it."""

    READY = "ready"
    EQUAL = "equal"
    DIFFERENT = "different"
    # The comparison raised: undecided, so not equal, and the verifier's name says so.
    FAILED = "failed"
    # Over the memory limit.
    EXHAUSTED = "exhausted"
    # Overdue or ended; only the parent says this.
    TIMEOUT = "timeout"


def main(memory_bytes: int, seconds: int) -> None:
    """Serves until stdin closes.

    Args:
        memory_bytes: Limit of the address space.
        seconds: Processor seconds for one pair.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    replies = _own_stdout()
    from sdbench.grading.equivalence import equivalent

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    equivalent("\\sqrt{4}x", "2x")  # builds the parser's tables
    _reply(replies, Finding.READY)
    for line in sys.stdin:
        pair = json.loads(line)
        _limit_processor(seconds)
        _reply(replies, compare(pair["gold"], pair["answer"]))


def compare(gold: str, answer: str) -> Finding:
    """What comparing two canonical answers comes to; it raises nothing.

    This is the fault boundary of one comparison: the parent counts what is neither equal nor different.
    """
    from sdbench.grading.equivalence import equivalent

    try:
        return Finding.EQUAL if equivalent(gold, answer) else Finding.DIFFERENT
    except MemoryError:
        return Finding.EXHAUSTED
    except Exception:
        return Finding.FAILED


def _own_stdout() -> TextIO:
    """Keeps stdout for replies; what libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, finding: Finding) -> None:
    replies.write(json.dumps({"finding": finding}) + "\n")
    replies.flush()


def _limit_processor(seconds: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))
