"""A teacher that reads a successful rollout of the same group.

The solver's own success is the feedback: each rollout's teacher reads the next rollout of its group
whose answer is right, itself and copies of it excepted. Rollouts without such a sibling are dropped and
counted, so a problem that is never solved teaches nothing, as with `grpo`.

Source: 2601.20802 (SDPO). Departures: the suite's loss and teacher instead of SDPO's own, and no
feedback of the environment beside the sibling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sdbench.conditions._others import sibling
from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings, missing
from sdbench.critics.base import said
from sdbench.records import Attempt, Feedback


class Config(ConditionConfig):
    """Eight rollouts a problem, as `grpo` has."""

    compares: ClassVar[bool] = True

    loss: str = "forward_kl"
    group_size: int = 8


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return Sibling(surroundings)


class Sibling:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout that has a successful sibling."""
        return [self._of(group, attempt) for group in groups for attempt in group.attempts]

    def _of(self, group: Group, attempt: Attempt) -> Feedback:
        found = sibling(group, attempt, correct=True)
        if found is None:
            return missing(attempt)
        return self._surroundings.taught("sibling", attempt, said(found.rollout.text))
