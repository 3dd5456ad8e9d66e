"""Forward KL, KL(teacher || student), at every completion token.

    sum_v t_v (log t_v - log p_v),   gradient with respect to logits: p - t

t is the teacher, p the student. Mode covering: the student is pulled up wherever the teacher has
mass. The study prints D(student || teacher) and calls it forward KL; here the name means the
direction written above. Options (top-k, pointwise clip): `DivergenceConfig`.

Source: 2606.11173, the default divergence; 2601.18734 found it best.
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
    gaps_NK = teacher.logprobs_NV - policy.logprobs_NV
    return Terms(gaps_NK.mul_(teacher.probs_NV), teacher.probs_NV.neg())
