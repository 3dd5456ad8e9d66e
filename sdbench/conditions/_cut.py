"""A critique cut where the error is: what was right before it, what was wrong, how it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from sdbench import traces
from sdbench.critics.base import said
from sdbench.records import Attempt, Critique


@dataclass(frozen=True, slots=True)
class Cut:
    """The parts of a critique.

    Attributes:
        right: How many steps stand before the error: all of them if there is none.
        before: The critique up to there: those steps.
        wrong: The solver's own step there with its tags, empty if none is wrong: where a step is
            missing, or was cut off, the one that stands there is not.
        after: The rest of the critique.
    """

    right: int
    before: str
    wrong: str
    after: str


def cut(attempt: Attempt, critique: Critique) -> Cut:
    """Cuts a critique at the error that it found in an attempt."""
    own = traces.parse(said(attempt.rollout.text))
    steps = traces.parse(critique.text).steps
    found = critique.first_wrong_step
    right = len(steps) if found is None else min(found - 1, len(steps))
    end = steps[right].start if right < len(steps) else steps[-1].end if steps else 0
    wrong = ""
    if found is not None and critique.error_written and found <= len(own.steps):
        at = own.steps[found - 1]
        wrong = own.text[at.start : at.end]
    return Cut(right, critique.text[:end], wrong, critique.text[end:])
