"""The reference solution, written in the solver's own notation.

What `reference` shows differs from what the solver writes in content (it is right) and in style (it is
another author's). Here the style is the solver's, and the text is still the same for every rollout of a
problem. What this gains over `reference` is style; what `critique` gains over this is that it follows
this very rollout.

Source: a control of this project for the claim of 2606.11173.
"""

from __future__ import annotations

from sdbench import worked
from sdbench.conditions.base import Condition, Surroundings
from sdbench.conditions.reference import Config as Config
from sdbench.conditions.reference import Told


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return Told(
        surroundings,
        "solution",
        lambda attempt: worked.in_solvers_notation(attempt.problem, surroundings.style),
    )
