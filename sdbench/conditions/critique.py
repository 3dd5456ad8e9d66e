"""Self-distillation from a teacher that reads a step-by-step critique of this very rollout.

A frozen critic copies the rollout's correct steps verbatim, replaces the first wrong one without
quoting it, and goes on to the answer in the solver's notation. The teacher, the initial policy,
reads the problem and that text, so it agrees with the student up to the error and not at it.

Source: condition `StepAlignFB` of 2606.11173.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings, missing
from sdbench.prompts import ContextKind
from sdbench.records import Attempt, Critique, Feedback


@dataclass(frozen=True, slots=True)
class Shown:
    """What a teacher is shown: a text, and the kind of prompt that it stands in."""

    text: str
    kind: ContextKind = "critique"


Write = Callable[[Attempt, Critique], Shown | None]


class Config(ConditionConfig):
    """One rollout a problem, as in the study."""

    loss: str = "forward_kl"
    group_size: int = 1


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return Critiqued(surroundings)


def whole(_: Attempt, critique: Critique) -> Shown:
    """The critique as it is."""
    return Shown(critique.text)


class Critiqued:
    """See the module; for the controls that show the teacher a critique otherwise, `write` says how."""

    def __init__(self, surroundings: Surroundings, write: Write = whole) -> None:
        """Prepares feedback.

        Args:
            surroundings: The critic and the teacher's prompts.
            write: Makes the context of an attempt and its critique, or None where it cannot.
        """
        self._surroundings, self._write = surroundings, write

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One teacher's view for each rollout of which there is a critique; the others are dropped."""
        attempts = [attempt for group in groups for attempt in group.attempts]
        found = {one.rollout_id: one for one in self._surroundings.critic.critique(attempts)}
        return [self._of(attempt, found.get(attempt.rollout.id)) for attempt in attempts]

    def _of(self, attempt: Attempt, critique: Critique | None) -> Feedback:
        if critique is None or not critique.usable:
            return Feedback(attempt.rollout.id, critique=critique, dropped="critique")
        shown = self._write(attempt, critique)
        if shown is None:
            return missing(attempt, critique)
        return self._surroundings.taught(shown.kind, attempt, shown.text, critique)
