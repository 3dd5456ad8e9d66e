"""The critique against a wrong hint: what both would make the teacher say is taken away.

A hint of any kind changes how the teacher writes, right or wrong. So from the log-probability of a
teacher that reads the critique that of the same teacher is subtracted, reading in the same prompt a
wrong rollout of the same group, as if it were a critique:

    A_t = log pi_teacher(y_t | x, critique) - log pi_teacher(y_t | x, wrong sibling)

The second teacher takes the student's place in `token_policy_gradient`. A rollout never meets itself,
or a copy of it, as its hint; one without another wrong sibling is dropped and counted.

Source: 2606.11709 (RLCSD), section 3 there. Departures: the right hint is the critique, there a right
rollout; one wrong hint instead of an average over several; and the contrast is the advantage itself,
where RLCSD modulates the reward's with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from sdbench.conditions import critique
from sdbench.conditions._others import sibling
from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.critics.base import said
from sdbench.records import Attempt, Feedback, Given


class Config(ConditionConfig):
    """Eight rollouts a problem, as `grpo` has."""

    compares: ClassVar[bool] = True
    gives: ClassVar[frozenset[Given]] = frozenset({"teacher", "against"})

    loss: str = "token_policy_gradient"
    group_size: int = 8


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return Contrast(surroundings)


class Contrast:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._critiqued = critique.Critiqued(surroundings)

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """The critique's view of each rollout, with that of the wrong hint."""
        told = {one.rollout_id: one for one in self._critiqued.feedback(groups)}
        return [
            self._against(told[attempt.rollout.id], group, attempt)
            for group in groups
            for attempt in group.attempts
        ]

    def _against(self, one: Feedback, group: Group, attempt: Attempt) -> Feedback:
        if one.view is None:
            return one
        wrong = sibling(group, attempt, correct=False)
        if wrong is None:
            return replace(one, view=None, dropped="missing")
        against = self._surroundings.view("critique", attempt, said(wrong.rollout.text))
        if against is None:
            return replace(one, view=None, dropped="overlong")
        return replace(one, against=against)
