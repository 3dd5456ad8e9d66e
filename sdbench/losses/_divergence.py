"""What the divergences share: the outcomes they compare, the pointwise clip, the gradient.

A divergence is a sum of contributions d_v over outcomes v. With s_v the derivative of d_v with
respect to log p_v, p the student, its gradient with respect to the student's logits is

    s_v - p_v sum_u s_u

so a divergence states d and s, and all else is here. The outcomes are the whole vocabulary, or the
top_k tokens of one of both distributions and a tail: all other tokens as one more outcome, which
has the mass that either distribution leaves to them. The tail's gradient is shared among its tokens
in proportion to their probability. The tail is summed from its own tokens: 1 minus the mass of the
others would lose what is below the type's precision.

With `pointwise_clip` c each outcome contributes min(d_v, c). That is no divergence, it may be
negative, and an outcome above c loses its s_v and keeps - p_v sum_u s_u. In forward KL this turns
the gradient round: an outcome is only clipped if the teacher gives it more than the student does,
and the clipped gradient then lowers it further. Hence it is off.

Source: top-k and tail are 2601.20802 (SDPO); the clip is 2601.18734's code (OPSD), and what it does
to the gradient is 2609.38995, proposition 1 there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from sdbench.config import Frozen, Positive
from sdbench.losses.base import Distribution, Loss, LossInputs, with_gradient


class DivergenceConfig(Frozen):
    """Options of every divergence.

    Attributes:
        top_k: So many tokens are compared one by one, the others as one; None compares all.
        top_k_of: Whose most probable tokens they are.
        pointwise_clip: Most that one outcome may contribute, nats; None is no limit. See the module
            for why it is off.
    """

    top_k: Positive | None = None
    top_k_of: Literal["teacher", "student"] = "teacher"
    pointwise_clip: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """A divergence's terms, one for each outcome; both tensors may be overwritten.

    Attributes:
        contributions_NK: They sum to the divergence, nats.
        slopes_NK: Of each contribution with respect to the student's log-probability.
    """

    contributions_NK: torch.Tensor
    slopes_NK: torch.Tensor


def divergence(
    config: DivergenceConfig, terms: Callable[[Distribution, Distribution], Terms]
) -> Loss:
    """The loss that a divergence is.

    Args:
        config: Which outcomes are compared, and the clip.
        terms: Gives the terms from student and teacher over the same outcomes.
    """

    def loss(inputs: LossInputs) -> torch.Tensor:
        top_Nk = _top_tokens(config, inputs)
        policy = inputs.policy if top_Nk is None else _with_tail(inputs.policy, top_Nk)
        teacher = inputs.teacher if top_Nk is None else _with_tail(inputs.teacher, top_Nk)
        found = terms(policy, teacher)
        contributions_NK, slopes_NK = found.contributions_NK, found.slopes_NK
        if config.pointwise_clip is not None:
            slopes_NK.masked_fill_(contributions_NK > config.pointwise_clip, 0.0)
            contributions_NK.clamp_(max=config.pointwise_clip)
        values_N, total_N1 = contributions_NK.sum(-1), slopes_NK.sum(-1, keepdim=True)
        gradient_NK = slopes_NK.addcmul_(policy.probs_NV, total_N1, value=-1)
        if top_Nk is not None:
            gradient_NK = _to_tokens(gradient_NK, policy, inputs.policy, top_Nk)
        return with_gradient(inputs.policy_logits_NV, values_N, gradient_NK)

    return loss


def _top_tokens(config: DivergenceConfig, inputs: LossInputs) -> torch.Tensor | None:
    """The tokens that are compared one by one, [N, top_k]; None if they are all."""
    if config.top_k is None or config.top_k >= inputs.policy_logits_NV.shape[-1]:
        return None
    chosen_by = inputs.teacher if config.top_k_of == "teacher" else inputs.policy
    return chosen_by.logprobs_NV.topk(config.top_k, dim=-1, sorted=False).indices


def _with_tail(whole: Distribution, top_Nk: torch.Tensor) -> Distribution:
    """The distribution over these tokens and, last, the tail, [N, top_k + 1]."""
    tail_N1 = whole.probs_NV.scatter(-1, top_Nk, 0.0).sum(-1, keepdim=True)
    tail_N1 = tail_N1.clamp_(min=torch.finfo(tail_N1.dtype).tiny).log_()
    return Distribution(torch.cat([whole.logprobs_NV.gather(-1, top_Nk), tail_N1], dim=-1))


def _to_tokens(
    gradient_NK: torch.Tensor, policy: Distribution, whole: Distribution, top_Nk: torch.Tensor
) -> torch.Tensor:
    """The gradient with respect to every token's logit, [N, V], from that over outcomes."""
    share_N1 = gradient_NK[:, -1:] / policy.probs_NV[:, -1:]
    return (whole.probs_NV * share_N1).scatter_(-1, top_Nk, gradient_NK[:, :-1])
