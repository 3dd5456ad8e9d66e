"""The group-normalised reward and a teacher's per-token advantage, blended by the loss.

Each rollout gets both: the advantage A_i that `grpo` gives it, and the teacher's view that another
condition gives it. The loss `token_policy_gradient` mixes them, w A_t + (1 - w) A_i; its options
set w, one half unless they do, and let it rise and fall over the updates.

Source: 2601.20802 (SDPO), the blend; 2606.04036 (SDPG), warm-up and decay of the teacher's weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import model_validator

from sdbench.conditions import critique, grpo, reference
from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Feedback, Given

LOSS = "token_policy_gradient"
TEACHER_WEIGHT = 0.5


class Config(ConditionConfig):
    """Which condition's teacher it takes."""

    gives: ClassVar[frozenset[Given]] = frozenset({"teacher", "advantage"})
    compares: ClassVar[bool] = True

    loss: str = LOSS
    group_size: int = 8
    teacher: Literal["reference", "critique"] = "critique"
    divide_by_deviation: bool = True

    @model_validator(mode="before")
    @classmethod
    def _blended(cls, table: dict[str, object]) -> dict[str, object]:
        options = table.get("loss_options", {})
        if table.get("loss", LOSS) != LOSS or not isinstance(options, Mapping):
            return table
        return {**table, "loss_options": {"teacher_weight": TEACHER_WEIGHT, **options}}


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    taught: Condition
    if config.teacher == "critique":
        taught = critique.build(critique.Config(), surroundings)
    else:
        taught = reference.build(reference.Config(), surroundings)
    return Blend(taught, divide=config.divide_by_deviation)


class Blend:
    """See the module."""

    def __init__(self, taught: Condition, *, divide: bool) -> None:
        self._taught, self._divide = taught, divide

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """The teacher's feedback, each with the rollout's advantage; none where it has no view."""
        rewarded = {
            attempt.rollout.id: advantage
            for group in groups
            for attempt, advantage in zip(
                group.attempts, grpo.advantages(group, divide=self._divide), strict=True
            )
        }
        return [
            one if one.view is None else replace(one, advantage=rewarded[one.rollout_id])
            for one in self._taught.feedback(groups)
        ]
