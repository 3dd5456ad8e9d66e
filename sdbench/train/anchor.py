"""The pull back to the initial policy: KL(policy || initial), estimated at the sampled tokens.

    k3 = exp(d) - d - 1,  d = log pi_initial(y_t) - log pi(y_t)

Its mean over samples of the policy is the KL; it is never negative. Its gradient is
(1 - exp(d)) grad log pi(y_t). Both at the temperature of sampling.

Source: 2402.03300 (GRPO), equation 4 there; http://joschu.net/blog/kl-approx.html for the estimator.
"""

from __future__ import annotations

import torch

from sdbench.losses.base import LossInputs, through_logprobs


def anchor_loss(inputs: LossInputs, initial_logits_NV: torch.Tensor) -> torch.Tensor:
    """The estimate at each token, [N], nats.

    Args:
        inputs: The policy's logits and the tokens.
        initial_logits_NV: The initial policy's at the same tokens, without gradient.
    """
    initial_NV = (initial_logits_NV / inputs.temperature).log_softmax(-1)
    initial_N = initial_NV.gather(-1, inputs.completion_ids_N[:, None])[:, 0]
    gap_N = initial_N - inputs.policy_logprobs_N
    return through_logprobs(inputs, gap_N.expm1() - gap_N, 1 - gap_N.exp())
