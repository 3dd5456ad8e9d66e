"""The critique of another problem's rollout: the form of a critique without its content.

Each rollout's teacher reads a critique that the critic wrote of a rollout of another problem in the
same update. What `critique` gains over this, it gains from what the critique says, and not from a
prompt that looks like one. An update of a single problem teaches nothing, and its rollouts are counted.

Source: a control of this project for the claim of 2606.11173; 2608.09228 (OP2SD) did it with solutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sdbench.conditions import critique
from sdbench.conditions._others import other_groups
from sdbench.conditions.base import Condition, Group, Surroundings, missing
from sdbench.records import Attempt, Critique, Feedback


class Config(critique.Config):
    """One rollout a problem, as `critique` has."""

    compares: ClassVar[bool] = True


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return Shuffled(surroundings)


class Shuffled:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout whose counterpart has a usable critique."""
        attempts = [attempt for group in groups for attempt in group.attempts]
        found = {one.rollout_id: one for one in self._surroundings.critic.critique(attempts)}
        others = other_groups(groups)
        told = []
        for group in groups:
            other = others.get(group.problem.id)
            for place, attempt in enumerate(group.attempts):
                own = found.get(attempt.rollout.id)
                if other is None:
                    told.append(missing(attempt, own))
                else:
                    counterpart = other.attempts[place % len(other.attempts)]
                    told.append(self._of(attempt, own, found.get(counterpart.rollout.id)))
        return told

    def _of(self, attempt: Attempt, own: Critique | None, shown: Critique | None) -> Feedback:
        if shown is None or not shown.usable:
            return Feedback(attempt.rollout.id, critique=own, dropped="critique")
        return self._surroundings.taught("critique", attempt, shown.text, own)
