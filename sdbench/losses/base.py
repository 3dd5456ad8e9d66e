"""What every loss is: a pure function of the completion tokens of a micro-batch, packed.

Packed means that the completions of all rollouts stand one after the other on one axis N, without
padding, so a loss needs no mask and cannot depend on how a batch was padded or ordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from sdbench.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LossInputs:
    """Everything a loss may read; gradients flow through `policy_logits_NV` alone.

    Attributes:
        completion_ids_N: The tokens of the completions.
        policy_logits_NV: The policy's logits that predict them.
        sampling_logprobs_N: Of the tokens when they were drawn, nats.
        temperature: At which they were drawn.
        advantages_N: The rollout's advantage at each of its tokens, None if there is none.
        teacher_logits_NV: The teacher's logits at the same tokens, None if there is no teacher.
    """

    completion_ids_N: torch.Tensor
    policy_logits_NV: torch.Tensor
    sampling_logprobs_N: torch.Tensor
    temperature: float
    advantages_N: torch.Tensor | None = None
    teacher_logits_NV: torch.Tensor | None = None

    def advantages(self) -> torch.Tensor:
        """`advantages_N`.

        Raises:
            ConfigError: the condition gives none.
        """
        if self.advantages_N is None:
            raise ConfigError(
                "this loss needs an advantage and the condition gives none",
                hint="self-distilled conditions take forward_kl, reverse_kl or jsd",
            )
        return self.advantages_N

    def teacher_logits(self) -> torch.Tensor:
        """`teacher_logits_NV`.

        Raises:
            ConfigError: the condition has no teacher.
        """
        if self.teacher_logits_NV is None:
            raise ConfigError(
                "this loss needs a teacher and the condition has none",
                hint="conditions with a reward take policy_gradient",
            )
        return self.teacher_logits_NV


class Loss(Protocol):
    """Gives each completion token a loss."""

    def __call__(self, inputs: LossInputs) -> torch.Tensor:
        """The loss of each token, [N], in nats (policy gradient: nats times advantage)."""
        ...


def token_logprobs(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token under the logits that predict it, [N], nats."""
    return logits_NV.log_softmax(-1).gather(-1, ids_N[:, None])[:, 0]


def token_advantages(
    policy_logits_NV: torch.Tensor, teacher_logits_NV: torch.Tensor, ids_N: torch.Tensor
) -> torch.Tensor:
    """A_t = log pi_teacher(y_t) - log pi_policy(y_t), [N], nats, without gradient.

    Source: 2606.11173, the per-token advantage.
    """
    difference_N = token_logprobs(teacher_logits_NV, ids_N) - token_logprobs(
        policy_logits_NV, ids_N
    )
    return difference_N.detach()
