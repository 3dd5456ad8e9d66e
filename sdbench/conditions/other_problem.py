"""A teacher that reads the worked solution of another problem.

The form of `reference` without its content: each problem's teacher reads the solution of another
problem of the same update. An update of a single problem teaches nothing, and its rollouts are counted.

Source: 2608.09228 (OP2SD), where another problem's solution stays competitive with the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sdbench import worked
from sdbench.conditions import reference
from sdbench.conditions._others import other_groups
from sdbench.conditions.base import Condition, Group, Surroundings, missing
from sdbench.records import Feedback


class Config(reference.Config):
    """One rollout a problem, as `reference` has."""

    compares: ClassVar[bool] = True


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return OtherProblem(surroundings)


class OtherProblem:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout.

        Raises:
            DataError: a problem has no worked solution.
        """
        others = other_groups(groups)
        told = []
        for group in groups:
            other = others.get(group.problem.id)
            for attempt in group.attempts:
                if other is None:
                    told.append(missing(attempt))
                else:
                    context = worked.solution_of(other.problem)
                    told.append(self._surroundings.taught("solution", attempt, context))
        return told
