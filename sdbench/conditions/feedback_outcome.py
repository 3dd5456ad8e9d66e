"""A teacher that is told whether the answer was right, and what the right answer is; no reasoning.

What `critique` gains over this, it gains from the steps and not from the answer that it ends with. The
words are `prompts/<style>/outcome_right.txt` and `outcome_wrong.txt`; the tiny solver, which knows no
words, reads the right answer alone.

Source: 2601.20802 (SDPO), whose teacher reads the environment's feedback on the rollout.
"""

from __future__ import annotations

from sdbench import prompts
from sdbench.conditions.base import Condition, Surroundings
from sdbench.conditions.reference import Config as Config
from sdbench.conditions.reference import Told
from sdbench.records import Attempt


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""

    def outcome(attempt: Attempt) -> str:
        kind: prompts.Remark = "outcome_right" if attempt.verdict.correct else "outcome_wrong"
        return prompts.remark(surroundings.style, kind, answer=attempt.problem.answer)

    return Told(surroundings, "remarks", outcome)
