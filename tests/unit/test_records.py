"""Records that refuse what does not belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sdbench.arithmetic.expression import Expression, parse
from sdbench.records import Attempt, Verdict, VerdictStatus

MakeAttempt = Callable[[Expression, str, int], Attempt]


@pytest.mark.parametrize("status", list(VerdictStatus))
def test_only_correct_is_correct(status: VerdictStatus) -> None:
    verdict = Verdict("a", status, None, "by hand")
    assert verdict.correct == (status.value == "correct")


def test_an_attempt_of_another_problem_or_verdict_is_refused(attempt_at: MakeAttempt) -> None:
    one = attempt_at(parse("1+2*3+4+5"), "<answer>6</answer>", 0)
    other = attempt_at(parse("1+2*3+4+6"), "<answer>7</answer>", 0)
    with pytest.raises(ValueError, match="do not belong together"):
        Attempt(other.problem, one.rollout, one.verdict)
    with pytest.raises(ValueError, match="do not belong together"):
        Attempt(one.problem, one.rollout, other.verdict)


def test_records_are_frozen(attempt_at: MakeAttempt) -> None:
    attempt = attempt_at(parse("1+2*3+4+5"), "", 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attempt.rollout.text = "other"  # type: ignore[misc]
