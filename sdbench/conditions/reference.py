"""Self-distillation from a teacher that reads a complete reference solution.

The teacher is the initial policy; its prompt holds the problem and the task's worked solution, by
another author in another notation. The student's distribution is pulled to the teacher's at every
token of the student's own rollout.

Source: condition `RefSol` of 2606.11173; the set-up of OPSD, 2601.18734.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.errors import DataError
from sdbench.records import Attempt, Feedback


class Config(ConditionConfig):
    """One rollout a problem, as in the study."""

    loss: str = "forward_kl"
    group_size: int = 1


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return Reference(surroundings)


class Reference:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout.

        Raises:
            DataError: a problem has no worked solution.
        """
        return [self._of(attempt) for group in groups for attempt in group.attempts]

    def _of(self, attempt: Attempt) -> Feedback:
        solution = attempt.problem.solution
        if solution is None:
            raise DataError(
                f"problem {attempt.problem.id} of task {attempt.problem.task} has no worked solution,"
                " which the condition 'reference' needs"
            )
        return self._surroundings.taught("solution", attempt, solution)
