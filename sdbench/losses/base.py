"""What every loss is: a pure function of completion tokens, packed.

Packed means that the completions of all rollouts stand one after the other on one axis N, without
padding, so a loss needs no mask and cannot depend on how a batch was padded or ordered. Training
calls it on chunks of that axis, so that [N, V] logits of a whole batch are never held: what a loss
says of a token must depend on that token alone.

A loss may leave its gradient to autograd. Where it knows the gradient with respect to the logits in
closed form it says so by `with_gradient`, which spares autograd's intermediates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from sdbench.errors import ConfigError


class Distribution:
    """A next-token distribution at each of N tokens, without gradient; computed when asked for."""

    def __init__(self, logits_NV: torch.Tensor) -> None:
        self._logits_NV = logits_NV.detach()

    @cached_property
    def logprobs_NV(self) -> torch.Tensor:
        """[N, V], nats."""
        return self._logits_NV.log_softmax(-1)

    @cached_property
    def probs_NV(self) -> torch.Tensor:
        """[N, V]."""
        return self.logprobs_NV.exp()

    @cached_property
    def negative_entropy_N(self) -> torch.Tensor:
        """Sum of p log p, [N], nats."""
        negative_entropy_N: torch.Tensor = torch.linalg.vecdot(self.probs_NV, self.logprobs_NV)
        return negative_entropy_N


@dataclass(frozen=True)
class LossInputs:
    """Everything a loss may read; gradients flow through `policy_logits_NV` alone.

    Attributes:
        completion_ids_N: The tokens of the completions.
        policy_logits_NV: The policy's logits that predict them.
        sampling_logprobs_N: Of the tokens when they were drawn, nats, at `temperature`; None if they
            were not drawn but written by somebody else.
        temperature: At which rollouts are drawn.
        advantages_N: The rollout's advantage at each of its tokens, None if there is none.
        teacher_logits_NV: The teacher's logits at the same tokens, None if there is no teacher.
        against_logits_NV: The teacher's logits when it reads the hint that its context is contrasted
            with, None without a contrast.
        old_logprobs_N: Of the tokens under the policy before the first pass over them, nats, at
            `temperature`; None in the first pass, in which they are the policy's own.
        update: Number of the update, from 1, for losses that follow a schedule.
    """

    completion_ids_N: torch.Tensor
    policy_logits_NV: torch.Tensor
    sampling_logprobs_N: torch.Tensor | None
    temperature: float
    advantages_N: torch.Tensor | None = None
    teacher_logits_NV: torch.Tensor | None = None
    against_logits_NV: torch.Tensor | None = None
    old_logprobs_N: torch.Tensor | None = None
    update: int = 1

    @cached_property
    def policy(self) -> Distribution:
        """The policy's own distribution, at temperature 1, without gradient."""
        return Distribution(self.policy_logits_NV)

    @cached_property
    def tempered_policy(self) -> Distribution:
        """The policy's distribution at the temperature of sampling, without gradient."""
        if self.temperature == 1:
            return self.policy
        return Distribution(self.policy_logits_NV / self.temperature)

    @cached_property
    def policy_logprobs_N(self) -> torch.Tensor:
        """Of the tokens under the policy at the temperature of sampling, nats, without gradient."""
        return _taken(self.tempered_policy.logprobs_NV, self.completion_ids_N)

    @cached_property
    def teacher(self) -> Distribution:
        """The teacher's distribution, at temperature 1.

        Raises:
            ConfigError: the condition has no teacher.
        """
        if self.teacher_logits_NV is None:
            raise ConfigError(
                "this loss needs a teacher and the condition has none",
                hint="conditions with a reward alone take policy_gradient",
            )
        return Distribution(self.teacher_logits_NV)

    @cached_property
    def token_advantages_N(self) -> torch.Tensor:
        """A_t = log pi_teacher(y_t) - log pi_policy(y_t), nats, at temperature 1, without gradient.

        With a contrast, the teacher that reads the other hint stands in the policy's place.

        Source: 2606.11173, the per-token advantage; 2606.11709, the contrast.

        Raises:
            ConfigError: the condition has no teacher.
        """
        ids_N = self.completion_ids_N
        contrasted = self.against_logits_NV
        base = self.policy if contrasted is None else Distribution(contrasted)
        return _taken(self.teacher.logprobs_NV, ids_N) - _taken(base.logprobs_NV, ids_N)

    def advantages(self) -> torch.Tensor:
        """`advantages_N`.

        Raises:
            ConfigError: the condition gives none.
        """
        if self.advantages_N is None:
            raise ConfigError(
                "this loss needs an advantage and the condition gives none",
                hint="self-distilled conditions take a divergence, or token_policy_gradient unblended",
            )
        return self.advantages_N


class Loss(Protocol):
    """Gives each completion token a loss."""

    def __call__(self, inputs: LossInputs) -> torch.Tensor:
        """The loss of each token, [N], in nats (policy gradient: nats times advantage)."""
        ...


def with_gradient(
    logits_NV: torch.Tensor, values_N: torch.Tensor, gradient_NV: torch.Tensor
) -> torch.Tensor:
    """Values whose gradient is known in closed form.

    Args:
        logits_NV: What they are a function of; gradients flow there.
        values_N: The values, without gradient.
        gradient_NV: Of each token's value with respect to its own logits.

    Returns:
        `values_N`, with that gradient.
    """
    found: torch.Tensor = _WithGradient.apply(  # type: ignore[no-untyped-call]
        logits_NV, values_N, gradient_NV
    )
    return found


def through_logprobs(
    inputs: LossInputs, values_N: torch.Tensor, slopes_N: torch.Tensor
) -> torch.Tensor:
    """Values that depend on the policy through `policy_logprobs_N` alone.

    Args:
        inputs: The policy's logits and the tokens; gradients flow to the logits.
        values_N: The values, without gradient.
        slopes_N: Of each value with respect to its token's log-probability.

    Returns:
        `values_N`, with the gradient slope * (onehot(y_t) - pi) / temperature.
    """
    probs_NV = inputs.tempered_policy.probs_NV
    slopes_N1 = slopes_N.to(probs_NV.dtype)[:, None] / inputs.temperature
    gradient_NV = (probs_NV * -slopes_N1).scatter_add_(
        -1, inputs.completion_ids_N[:, None], slopes_N1
    )
    return with_gradient(inputs.policy_logits_NV, values_N, gradient_NV)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        logits_NV: torch.Tensor,
        values_N: torch.Tensor,
        gradient_NV: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(gradient_NV)
        return values_N.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *upstream: torch.Tensor) -> object:
        (gradient_NV,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient_NV * upstream[0][:, None], None, None


def _taken(values_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:
    """Each token's own value, [N]."""
    return values_NV.gather(-1, ids_N[:, None])[:, 0]
