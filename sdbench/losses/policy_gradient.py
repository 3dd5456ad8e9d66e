"""Clipped policy gradient: raises the probability of tokens with positive advantage.

    -min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A),  rho_t = pi(y_t) / pi_old(y_t)
    gradient: -A rho_t grad log pi(y_t), and 0 where the clip binds

A is the rollout's advantage, the same at each of its tokens; pi is at the temperature of sampling.
In the first pass over the rollouts pi_old is pi: rho_t is 1 and the gradient -A grad log pi(y_t).

Source: 1707.06347 (PPO), equation 7; the unequal bounds are 2503.14476 (DAPO), section 3.1 there;
the advantage is 2402.03300 (GRPO). Departure from GRPO: the KL to a reference policy is the loop's,
for all losses alike.
"""

from __future__ import annotations

import torch

from sdbench.losses._surrogate import ClipConfig, clipped_surrogate
from sdbench.losses.base import Loss, LossInputs
from sdbench.records import Given

READS: frozenset[Given] = frozenset({"advantage"})


class Config(ClipConfig):
    """The bounds of the ratio."""


def build(config: Config) -> Loss:
    """The loss."""

    def loss(inputs: LossInputs) -> torch.Tensor:
        return clipped_surrogate(inputs, inputs.advantages(), config)

    return loss
