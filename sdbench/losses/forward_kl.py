"""Forward KL, KL(teacher || student) over the full vocabulary, at every completion token.

Mode covering: the student is pulled up wherever the teacher has mass. The study prints
D(student || teacher) and calls it forward KL; here the name means the direction written above.

Source: 2606.11173, the default divergence; 2601.18734 found it best.
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
        return (teacher_NV.exp() * (teacher_NV - policy_NV)).sum(-1)

    return loss
