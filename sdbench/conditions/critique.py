"""Self-distillation from a teacher that reads a step-by-step critique of this very rollout.

A frozen critic copies the rollout's correct steps verbatim, replaces the first wrong one without
quoting it, and goes on to the answer in the solver's notation. The teacher, the initial policy,
reads the problem and that text, so it agrees with the student up to the error and not at it.

Source: condition `StepAlignFB` of 2606.11173.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Attempt, Critique, Feedback


class Config(ConditionConfig):
    """One rollout a problem, as in the study."""

    loss: str = "forward_kl"
    group_size: int = 1


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return Critiqued(surroundings)


class Critiqued:
    """See the module."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout of which there is a critique; the others are dropped."""
        attempts = [attempt for group in groups for attempt in group.attempts]
        found = {one.rollout_id: one for one in self._surroundings.critic.critique(attempts)}
        return [self._of(attempt, found.get(attempt.rollout.id)) for attempt in attempts]

    def _of(self, attempt: Attempt, critique: Critique | None) -> Feedback:
        if critique is None or critique.case is None:
            return Feedback(attempt.rollout.id, critique=critique, dropped="critique")
        return self._surroundings.taught("critique", attempt, critique.text, critique)
