"""Binary reward, normalised within the group of a problem's rollouts; no teacher.

A_i = (r_i - mean(r)) / (std(r) + 1e-6), one number for all tokens of rollout i, with r_i = 1 for a
right answer, else 0, and the population standard deviation. A group in which all rewards are equal
has advantage 0 throughout: it trains nothing, and is counted.

Source: 2402.03300 (GRPO), section 4.1.1 there; condition `GRPO` of 2606.11173.
Departures: no KL term to a reference policy (it would be a second difference between conditions).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

from sdbench.conditions.base import Condition, ConditionConfig, Group, Surroundings
from sdbench.records import Feedback

EPSILON = 1e-6


class Config(ConditionConfig):
    """Eight rollouts a problem, as in the study."""

    loss: str = "policy_gradient"
    group_size: int = 8


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs neither critic nor teacher."""
    return GRPO()


class GRPO:
    """See the module."""

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """One advantage for each rollout; those of a group sum to 0."""
        return [
            Feedback(attempt.rollout.id, advantage=advantage)
            for group in groups
            for attempt, advantage in zip(group.attempts, _normalised(group), strict=True)
        ]


def _normalised(group: Group) -> list[float]:
    rewards = [float(attempt.verdict.correct) for attempt in group.attempts]
    mean, deviation = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / (deviation + EPSILON) for reward in rewards]
