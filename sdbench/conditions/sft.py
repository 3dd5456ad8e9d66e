"""Supervised training on the worked solution, without any rollout of the solver's.

The student learns to write the solution that `reference` lets its teacher read. What `reference` gains
over this, it gains from being trained on its own rollouts. Rollouts are drawn all the same, so that the
log shows reward and length, and every arm meets the same problems; they are not trained on.

Source: the supervised baseline of 2601.19897 (SDFT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from sdbench import worked
from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Attempt, Feedback, Given


class Config(ConditionConfig):
    """One solution a problem.

    Attributes:
        notation: The author's own, or the solver's, as the prompt asks for it.
    """

    gives: ClassVar[frozenset[Given]] = frozenset({"demonstration"})

    loss: str = "cross_entropy"
    group_size: int = 1
    notation: Literal["author", "solver"] = "author"


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs neither critic nor teacher."""
    return Supervised(config, surroundings)


class Supervised:
    """See the module."""

    def __init__(self, config: Config, surroundings: Surroundings) -> None:
        self._config, self._surroundings = config, surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One demonstration for each rollout, dropped where the model cannot read so much.

        Raises:
            DataError: a problem has no worked solution.
        """
        return [self._of(attempt) for group in groups for attempt in group.attempts]

    def _of(self, attempt: Attempt) -> Feedback:
        if self._config.notation == "solver":
            text = worked.in_solvers_notation(attempt.problem, self._surroundings.style)
        else:
            text = worked.solution_of(attempt.problem)
        ids = self._surroundings.encode_completion(text)
        if len(attempt.rollout.prompt_ids) + len(ids) > self._surroundings.max_length:
            return Feedback(attempt.rollout.id, dropped="overlong")
        return Feedback(attempt.rollout.id, advantage=1.0, demonstration=ids)
