"""The worker process: reads pairs of answers from stdin, writes what math-verify finds to stdout.

One JSON line in, `{"gold": ..., "answer": ...}`, one JSON line out, `{"equal": true|false|null}`, null
where either side cannot be parsed. The parent keeps the deadline and kills; memory is limited here.
math-verify's own timeouts are off: they use SIGALRM, and a float makes every parse come back empty.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings

MEMORY_BYTES = 4 * 2**30


def main() -> None:
    """Serves until stdin closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")
    print(json.dumps({"ready": _equal("1", "1")}), flush=True)
    for line in sys.stdin:
        pair = json.loads(line)
        print(json.dumps({"equal": _equal(pair["gold"], pair["answer"])}), flush=True)


def _equal(gold: str, answer: str) -> bool | None:
    """Whether the answers are equal by math-verify; None if either cannot be parsed.

    Both are wrapped in a box, without which an interval parses to nothing. The relation is not
    symmetric; the right answer always stands first.
    """
    from math_verify import parse, verify

    try:
        parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
        if not all(parsed):
            return None
        return bool(verify(parsed[0], parsed[1], timeout_seconds=None))
    except (RecursionError, MemoryError, OverflowError, ValueError, TypeError, AttributeError):
        return None


if __name__ == "__main__":
    main()
