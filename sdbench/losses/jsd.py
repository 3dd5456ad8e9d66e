"""Generalised Jensen-Shannon divergence over the full vocabulary, at every completion token.

    beta KL(teacher || M) + (1 - beta) KL(student || M),  M = beta teacher + (1 - beta) student

Bounded by log 2 at beta = 1/2. Divided by 1 - beta it tends to reverse KL as beta tends to 1, and
divided by beta to forward KL as beta tends to 0.

Source: 2306.13649 (GKD), equation 1 there.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field

from sdbench.config import Frozen
from sdbench.losses.base import Loss, LossInputs


class Config(Frozen):
    """Options: the teacher's weight in the mixture."""

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5


def build(config: Config) -> Loss:
    """The loss."""
    log_beta, log_rest = math.log(config.beta), math.log1p(-config.beta)

    def loss(inputs: LossInputs) -> torch.Tensor:
        teacher_NV = inputs.teacher_logits().log_softmax(-1)
        policy_NV = inputs.policy_logits_NV.log_softmax(-1)
        mixture_NV = torch.logaddexp(teacher_NV + log_beta, policy_NV + log_rest)
        from_teacher_N = (teacher_NV.exp() * (teacher_NV - mixture_NV)).sum(-1)
        from_policy_N = (policy_NV.exp() * (policy_NV - mixture_NV)).sum(-1)
        return config.beta * from_teacher_N + (1 - config.beta) * from_policy_N

    return loss
