"""Clipped policy gradient: raises the probability of tokens with positive advantage.

    -min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A),  rho_t = pi(y_t) / pi_sampling(y_t)

pi is the policy at the temperature of sampling, as pi_sampling was. With one update for each batch
of rollouts rho_t is 1 up to rounding, and the gradient is A grad log pi(y_t).

Source: 1707.06347 (PPO), equation 7; the unequal bounds are 2503.14476 (DAPO), section 3.1 there.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from sdbench.config import Frozen
from sdbench.losses.base import Loss, LossInputs, token_logprobs


class Config(Frozen):
    """Options: how far the ratio may move before its gradient stops."""

    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] = 0.2


def build(config: Config) -> Loss:
    """The loss."""

    def loss(inputs: LossInputs) -> torch.Tensor:
        advantages_N = inputs.advantages()
        logits_NV = inputs.policy_logits_NV / inputs.temperature
        logprobs_N = token_logprobs(logits_NV, inputs.completion_ids_N)
        ratios_N = (logprobs_N - inputs.sampling_logprobs_N).exp()
        clipped_N = ratios_N.clamp(1 - config.clip_low, 1 + config.clip_high)
        return -torch.minimum(ratios_N * advantages_N, clipped_N * advantages_N)

    return loss
