"""Word problems with worked solutions, drawn by reasoning-gym (Apache-2.0), and attempts at them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from sdbench.grading import Answer, Grader
from sdbench.records import Attempt, FinishReason, Problem, Rollout

FILE = Path(__file__).parent / "data" / "word_problems.jsonl"


@cache
def word_problems() -> tuple[Problem, ...]:
    """Every problem of the file."""
    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return tuple(Problem(task="gsm_symbolic", split="train", **row) for row in rows)


def problem_with(words: str) -> Problem:
    """The only problem whose text holds these words."""
    (found,) = (problem for problem in word_problems() if words in problem.prompt)
    return found


def attempt_with(grader: Grader, problem: Problem, text: str, *, cut: bool = False) -> Attempt:
    """A graded attempt; its tokens stand for any."""
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    rollout = Rollout(f"0:{problem.id}#0", problem.id, 1, 0, (1,), (2, 3), (0.0, 0.0), text, reason)
    (verdict,) = grader.grade([Answer(rollout.id, text, problem.answer, reason)])
    return Attempt(problem, rollout, verdict)
