"""One fixed negative advantage on every token of a wrong rollout; nothing on a right one.

There is no teacher and no group: all that the feedback says is that the answer is wrong. If this did as
well as a teacher whose A_t is mostly negative on wrong rollouts, then where A_t points would not matter.

    A_i = -penalty if the answer is wrong, else 0

Source: 2608.31046, where one fixed negative advantage matches the teacher's own. Departure: the size
there is the mean of the teacher's advantages; here it is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Feedback, Given


class Config(ConditionConfig):
    """One rollout a problem.

    Attributes:
        penalty: Minus the advantage of a wrong rollout, nats: of the order of A_t at a wrong step.
    """

    gives: ClassVar[frozenset[Given]] = frozenset({"advantage"})

    loss: str = "policy_gradient"
    group_size: int = 1
    penalty: Annotated[float, Field(gt=0)] = 1.0


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs neither critic nor teacher."""
    return Constant(config.penalty)


class Constant:
    """See the module."""

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One advantage for each rollout."""
        return [
            Feedback(
                attempt.rollout.id, advantage=0.0 if attempt.verdict.correct else -self._penalty
            )
            for group in groups
            for attempt in group.attempts
        ]
