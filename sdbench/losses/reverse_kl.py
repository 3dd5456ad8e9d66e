"""Reverse KL, KL(student || teacher) over the full vocabulary, at every completion token.

Mode seeking: the student is pushed down wherever the teacher has no mass.

Source: 2306.13649 (GKD), section 3 there.
"""

from __future__ import annotations

import torch

from sdbench.config import Frozen
from sdbench.losses.base import Loss, LossInputs


class Config(Frozen):
    """No options."""


def build(config: Config) -> Loss:
    """The loss."""

    def loss(inputs: LossInputs) -> torch.Tensor:
        teacher_NV = inputs.teacher_logits().log_softmax(-1)
        policy_NV = inputs.policy_logits_NV.log_softmax(-1)
        return (policy_NV.exp() * (policy_NV - teacher_NV)).sum(-1)

    return loss
