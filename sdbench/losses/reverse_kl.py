"""Reverse KL, KL(student || teacher), at every completion token.

    sum_v p_v (log p_v - log t_v),   gradient with respect to logits: p (log p - log t - KL)

p is the student, t the teacher. Mode seeking: the student is pushed down wherever the teacher has
no mass. Options (top-k, pointwise clip): `DivergenceConfig`.

Source: 2306.13649 (GKD), section 3 there.
"""

from __future__ import annotations

from sdbench.losses._divergence import DivergenceConfig, Terms, divergence
from sdbench.losses.base import Distribution, Loss
from sdbench.records import Given

READS: frozenset[Given] = frozenset({"teacher"})


class Config(DivergenceConfig):
    """The options of every divergence."""


def build(config: Config) -> Loss:
    """The loss."""
    return divergence(config, _terms)


def _terms(policy: Distribution, teacher: Distribution) -> Terms:
    gaps_NK = policy.logprobs_NV - teacher.logprobs_NV
    contributions_NK = gaps_NK.mul_(policy.probs_NV)
    return Terms(contributions_NK, contributions_NK + policy.probs_NV)
