"""Cross-entropy: the supervised loss on text that somebody else wrote.

    -log pi(y_t);  gradient: pi - onehot(y_t)

pi is at temperature 1, whatever rollouts are drawn at. On the policy's own rollouts it would have no
mean gradient.

Source: maximum likelihood, as in 2601.19897 (SDFT), the supervised baseline.
"""

from __future__ import annotations

import torch

from sdbench.config import Frozen
from sdbench.losses.base import Loss, LossInputs, with_gradient
from sdbench.records import Given

READS: frozenset[Given] = frozenset({"demonstration"})


class Config(Frozen):
    """No options."""


def build(config: Config) -> Loss:
    """The loss."""

    def loss(inputs: LossInputs) -> torch.Tensor:
        ids_N1 = inputs.completion_ids_N[:, None]
        values_N = -inputs.policy.logprobs_NV.gather(-1, ids_N1)[:, 0]
        one = torch.ones((), dtype=values_N.dtype, device=values_N.device)
        gradient_NV = inputs.policy.probs_NV.scatter_add(-1, ids_N1, -one.expand_as(ids_N1))
        return with_gradient(inputs.policy_logits_NV, values_N, gradient_NV)

    return loss
