"""What an update saw at its tokens, summed over micro-batches and processes, as metrics.

In: values at each token. Out: means named `area/name`. Tokens that are not trained on do not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from sdbench.losses.base import LossInputs
from sdbench.train.chunked import Observed

POLICY_LOGPROBS = "policy_logprobs"
IMPORTANCE = "importance/mean"
ADVANTAGE = "advantage/mean"


@torch.no_grad()
def at_tokens(inputs: LossInputs) -> Observed:
    """What one chunk of tokens shows, [n] each; all of it at temperature 1 but the last two."""
    seen: Observed = {"train/entropy": -inputs.policy.negative_entropy_N}
    if inputs.teacher_logits_NV is not None:
        policy, teacher = inputs.policy, inputs.teacher
        to_teacher_N = torch.linalg.vecdot(policy.probs_NV, teacher.logprobs_NV)
        to_policy_N = torch.linalg.vecdot(teacher.probs_NV, policy.logprobs_NV)
        seen["divergence/forward_kl"] = teacher.negative_entropy_N - to_policy_N
        seen["divergence/reverse_kl"] = policy.negative_entropy_N - to_teacher_N
        seen[ADVANTAGE] = inputs.token_advantages_N
    elif inputs.sampling_logprobs_N is not None:
        seen[ADVANTAGE] = inputs.advantages()
    if inputs.sampling_logprobs_N is not None:
        old_N = inputs.policy_logprobs_N if inputs.old_logprobs_N is None else inputs.old_logprobs_N
        seen[IMPORTANCE] = (old_N - inputs.sampling_logprobs_N).exp()
    seen[POLICY_LOGPROBS] = inputs.policy_logprobs_N
    return seen


class Sums:
    """Sums of values with how many there were, by name."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, name: str, values: torch.Tensor) -> None:
        """Adds values of any number."""
        if values.numel():
            self.totals[name] += float(values.sum(dtype=torch.float64))
            self.counts[name] += values.numel()

    def see(
        self,
        observed: Observed,
        counted_N: torch.Tensor,
        roles: Sequence[str] | None,
        cap: float | None,
    ) -> None:
        """Adds what a micro-batch showed.

        Args:
            observed: From `at_tokens`, [N] each.
            counted_N: Whether each token is trained on.
            roles: Of each token, [N]; empty names are unknown. None if no role is known.
            cap: Of the importance ratio.
        """
        for name, values_N in observed.items():
            if name != POLICY_LOGPROBS:
                self.add(name, values_N[counted_N])
        advantages_N = observed.get(ADVANTAGE)
        if advantages_N is None:  # of a demonstration, which is worth the same throughout
            return
        self.add("advantage/absolute", advantages_N[counted_N].abs())
        if cap is not None:
            self.add("importance/capped", (observed[IMPORTANCE] > cap)[counted_N])
        for role in sorted(set(roles or ()) - {""}):
            held_N = torch.tensor([one == role for one in roles or ()], device=counted_N.device)
            self.add(f"advantage/{role}", advantages_N[counted_N & held_N])

    @staticmethod
    def joined(parts: Sequence[Sums]) -> Sums:
        """The sums of several processes."""
        joined = Sums()
        for one in parts:
            for name, total in one.totals.items():
                joined.totals[name] += total
                joined.counts[name] += one.counts[name]
        return joined

    def means(self) -> Mapping[str, float]:
        """The mean of each name."""
        return {name: total / self.counts[name] for name, total in sorted(self.totals.items())}
