"""Binary reward, normalised within the group of a problem's rollouts; no teacher.

A_i = (r_i - mean(r)) / (std(r) + 1e-6), one number for all tokens of rollout i, with r_i = 1 for a
right answer, else 0, and the population standard deviation. A group in which all rewards are equal
has advantage 0 throughout: it trains nothing, and is counted.

Published variants go by name and set what is not set beside them:

- `grpo`: the mean over rollouts of each one's mean token loss (2402.03300, equation 3 there).
- `dr_grpo`: no division by std(r), and a constant instead of the lengths (2503.20783).
- `dapo`: the mean over all tokens, clipped at 1 + 0.28 above (2503.14476). Departure: flat groups are
  counted, not drawn anew until there are enough others, and long answers are not penalised.

Without a name, lengths are treated as the suite treats those of all conditions.

Source: 2402.03300 (GRPO), section 4.1.1 there; condition `GRPO` of 2606.11173.
Departures: no KL term to a reference policy unless the suite sets `train.anchor_weight`, for all
conditions alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import model_validator

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Feedback, Given

EPSILON = 1e-6
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "grpo": {"normalisation": "sequence", "divide_by_deviation": True},
    "dr_grpo": {"normalisation": "constant", "divide_by_deviation": False},
    "dapo": {
        "normalisation": "token",
        "divide_by_deviation": True,
        "loss_options": {"clip_low": 0.2, "clip_high": 0.28},
    },
}


class Config(ConditionConfig):
    """Eight rollouts a problem, as in the study."""

    gives: ClassVar[frozenset[Given]] = frozenset({"advantage"})
    compares: ClassVar[bool] = True

    loss: str = "policy_gradient"
    group_size: int = 8
    variant: Literal["grpo", "dr_grpo", "dapo"] | None = None
    divide_by_deviation: bool = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: dict[str, object]) -> dict[str, object]:
        named = VARIANTS.get(str(table.get("variant")), {})
        both = {**named, **table}
        options, own = named.get("loss_options"), table.get("loss_options")
        if isinstance(options, Mapping) and isinstance(own, Mapping):
            both["loss_options"] = {**options, **own}
        return both


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs neither critic nor teacher."""
    return GRPO(divide=config.divide_by_deviation)


class GRPO:
    """See the module."""

    def __init__(self, *, divide: bool) -> None:
        self._divide = divide

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One advantage for each rollout; those of a group sum to 0."""
        return [
            Feedback(attempt.rollout.id, advantage=advantage)
            for group in groups
            for attempt, advantage in zip(
                group.attempts, advantages(group, divide=self._divide), strict=True
            )
        ]


def advantages(group: Group, *, divide: bool) -> list[float]:
    """The rewards of a group, centred and perhaps divided by their standard deviation."""
    rewards = [float(attempt.verdict.correct) for attempt in group.attempts]
    mean, scale = fmean(rewards), pstdev(rewards) + EPSILON if divide else 1.0
    return [(reward - mean) / scale for reward in rewards]
