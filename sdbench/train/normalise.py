"""How the token losses of an update become one number.

Flat rollouts, which have no gradient, count as any other, so the same update cut into other
micro-batches, or spread over more processes, has the same loss.

Source: `token` as in 2503.14476 (DAPO), section 3.3 there; `sequence` as in 2402.03300 (GRPO),
equation 3 there; `constant` as in 2503.20783 (Dr. GRPO), section 3.2 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdbench.config import Normalisation


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one update, over all processes.

    Attributes:
        tokens: Completion tokens that count.
        rollouts: Rollouts that have such tokens.
    """

    tokens: int
    rollouts: int


def totals(lengths: Sequence[int]) -> Totals:
    """The totals of one process.

    Args:
        lengths: Of each rollout the tokens that count, [B].
    """
    return Totals(sum(lengths), sum(length > 0 for length in lengths))


def token_weights(
    lengths: Sequence[int],
    normalisation: Normalisation,
    max_tokens: int,
    whole: Totals | None = None,
) -> list[float]:
    """What each token of a rollout weighs; the loss is the weighted sum over all tokens.

    Args:
        lengths: Of each rollout the tokens that count, [B].
        normalisation: `token` gives 1 / all tokens, `sequence` 1 / (rollouts * its own length),
            `constant` 1 / (rollouts * max_tokens).
        max_tokens: Token cap of a completion.
        whole: Totals of the update; None if `lengths` are all of it.

    Returns:
        [B]; 0 for a rollout without such tokens.
    """
    whole = whole or totals(lengths)

    def weight(length: int) -> float:
        if normalisation == "token":
            return 1 / whole.tokens
        return 1 / (whole.rollouts * (length if normalisation == "sequence" else max_tokens))

    return [weight(length) if length else 0.0 for length in lengths]
