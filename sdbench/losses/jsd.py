"""Generalised Jensen-Shannon divergence, at every completion token.

    beta KL(teacher || M) + (1 - beta) KL(student || M),  M = beta teacher + (1 - beta) student
    gradient with respect to logits: (1 - beta) p (log p - log M - KL(student || M))

p is the student. Bounded by log 2 at beta = 1/2. Divided by 1 - beta it tends to reverse KL as beta
tends to 1, and divided by beta to forward KL as beta tends to 0. beta is GKD's and so TRL's `beta`
and `alpha`, but there 0 and 1 stand for the KLs themselves; here they are losses of their own.
Options besides (top-k, pointwise clip): `DivergenceConfig`.

Source: 2306.13649 (GKD), equation 1 there.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from sdbench.losses._divergence import DivergenceConfig, Terms, divergence
from sdbench.losses.base import Distribution, Loss
from sdbench.records import Given

READS: frozenset[Given] = frozenset({"teacher"})


class Config(DivergenceConfig):
    """The options of every divergence, and the teacher's weight in the mixture."""

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5


def build(config: Config) -> Loss:
    """The loss."""

    def terms(policy: Distribution, teacher: Distribution) -> Terms:
        mixture_NK = torch.lerp(policy.probs_NV, teacher.probs_NV, config.beta)
        # Where both are below the type's range, so are the contributions.
        mixture_NK = mixture_NK.clamp_(min=torch.finfo(mixture_NK.dtype).tiny).log_()
        contributions_NK = teacher.logprobs_NV - mixture_NK
        contributions_NK.mul_(teacher.probs_NV).mul_(config.beta)
        slopes_NK = torch.sub(policy.logprobs_NV, mixture_NK, out=mixture_NK)
        slopes_NK.mul_(policy.probs_NV).mul_(1 - config.beta)
        return Terms(contributions_NK.add_(slopes_NK), slopes_NK)

    return divergence(config, terms)
