"""The clipped surrogate that both policy gradients minimise.

    -min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A),  rho_t = pi(y_t) / pi_old(y_t)
    gradient: -A rho_t grad log pi(y_t), and 0 where the clip binds

pi is the policy at the temperature of sampling; pi_old is the policy before the first pass over
the rollouts. In that pass rho_t is 1. What tells pi_old from the engine that drew the tokens is not
corrected here: the loop weights the token losses of every loss by it, the divergences' too.

Source: 1707.06347 (PPO), equation 7; the unequal bounds are 2503.14476 (DAPO), section 3.1 there.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from sdbench.config import Frozen
from sdbench.losses.base import LossInputs, through_logprobs

# Keeps the exponential in float32's range. A ratio of e^20 is of no use but as a large number.
MAX_LOG_RATIO = 20.0


class ClipConfig(Frozen):
    """How far the ratio may move before its gradient stops."""

    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] = 0.2


def clipped_surrogate(
    inputs: LossInputs, advantages_N: torch.Tensor, config: ClipConfig
) -> torch.Tensor:
    """The surrogate at each token, [N], with its gradient.

    Args:
        inputs: The policy's logits, the tokens, and `old_logprobs_N` if this is a later pass.
        advantages_N: Of each token, without gradient.
        config: The bounds.
    """
    gains_N = _ratios(inputs) * advantages_N
    clipped_N = _ratios(inputs).clamp(1 - config.clip_low, 1 + config.clip_high) * advantages_N
    slopes_N = torch.where(gains_N <= clipped_N, -gains_N, torch.zeros_like(gains_N))
    return through_logprobs(inputs, -torch.minimum(gains_N, clipped_N), slopes_N)


def _ratios(inputs: LossInputs) -> torch.Tensor:
    logprobs_N = inputs.policy_logprobs_N
    if inputs.old_logprobs_N is None:
        return torch.ones_like(logprobs_N)
    return (logprobs_N - inputs.old_logprobs_N).clamp(max=MAX_LOG_RATIO).exp()
