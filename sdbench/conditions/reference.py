"""Self-distillation from a teacher that reads a complete reference solution.

The teacher is the initial policy; its prompt holds the problem and the task's worked solution, by
another author in another notation. The student's distribution is pulled to the teacher's at every
token of the student's own rollout.

Source: condition `RefSol` of 2606.11173; the set-up of OPSD, 2601.18734.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sdbench import worked
from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.prompts import ContextKind
from sdbench.records import Attempt, Feedback

Write = Callable[[Attempt], str]


class Config(ConditionConfig):
    """One rollout a problem, as in the study."""

    loss: str = "forward_kl"
    group_size: int = 1


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return Told(surroundings, "solution", lambda attempt: worked.solution_of(attempt.problem))


class Told:
    """A teacher that reads something of each attempt for which no critic is needed."""

    def __init__(self, surroundings: Surroundings, kind: ContextKind, write: Write) -> None:
        """Prepares feedback.

        Args:
            surroundings: The teacher's prompts.
            kind: Of the teacher's prompt.
            write: Makes the context of an attempt.
        """
        self._surroundings, self._kind, self._write = surroundings, kind, write

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout.

        Raises:
            DataError: a problem has no worked solution, and the context needs one.
        """
        return [
            self._surroundings.taught(self._kind, attempt, self._write(attempt))
            for group in groups
            for attempt in group.attempts
        ]
