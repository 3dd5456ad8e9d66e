"""Policy gradient with a teacher's advantage at each token, optionally blended with a reward's.

    -min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A),  A = w A_t + (1 - w) A_i
    A_t = log pi_teacher(y_t) - log pi(y_t),  A_i = the rollout's advantage
    w = teacher_weight * rise * fall;  gradient: -A rho_t grad log pi(y_t), 0 where the clip binds

A_t has no gradient; its mean over the policy's samples is minus reverse KL, and at w = 1, rho_t = 1
and temperature 1 the mean gradient is reverse KL's, at the price of variance and for one
probability a token. w rises over `warmup_updates`, then falls to 0 over `decay_updates`. Without a
schedule and at teacher_weight 1 no reward is needed.

Source: 2601.20802 (SDPO), the token-level advantage and its blend with GRPO's; the schedule is
2606.04036 (SDPG). Departures: SDPG weights a full-vocabulary KL that is added to the reward's loss,
and decays over the last updates of a run, here over those that follow the warm-up.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from sdbench.config import Count
from sdbench.losses._surrogate import ClipConfig, clipped_surrogate
from sdbench.losses.base import Loss, LossInputs
from sdbench.records import Given

READS: frozenset[Given] = frozenset({"teacher", "against", "advantage"})


class Config(ClipConfig):
    """The bounds of the ratio, and the teacher's weight.

    Attributes:
        teacher_weight: Of A_t at the peak of the schedule; A_i has the rest.
        warmup_updates: Linear rise to it; 0 starts at the peak.
        decay_updates: Linear fall to 0 from the peak; 0 stays there.
    """

    teacher_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    warmup_updates: Count = 0
    decay_updates: Count = 0

    @property
    def blends(self) -> bool:
        """Whether any update reads the rollout's advantage."""
        return self.teacher_weight < 1 or self.warmup_updates > 1 or self.decay_updates > 0

    def weight(self, update: int) -> float:
        """The teacher's weight in an update, counted from 1."""
        peak = max(1, self.warmup_updates)
        rise = min(1.0, update / peak)
        fall = 1 - max(0, update - peak) / self.decay_updates if self.decay_updates else 1.0
        return self.teacher_weight * rise * max(0.0, fall)


def build(config: Config) -> Loss:
    """The loss."""

    def loss(inputs: LossInputs) -> torch.Tensor:
        advantages_N = inputs.token_advantages_N
        if config.blends:
            rollout_N = inputs.advantages().to(advantages_N.dtype)
            advantages_N = torch.lerp(rollout_N, advantages_N, config.weight(inputs.update))
        return clipped_surrogate(inputs, advantages_N, config)

    return loss
