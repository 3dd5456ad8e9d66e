"""What every critic is: attempts in, one critique each out.

A critic is frozen: it never trains, and the same attempt gets the same critique. What it writes
follows the study's scribe: correct steps verbatim, the first wrong one never quoted but replaced,
then on to the answer in the solver's own notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sdbench.records import Attempt, Critique


class Critic(Protocol):
    """Judges rollouts step by step."""

    def critique(self, attempts: Sequence[Attempt]) -> list[Critique]:
        """Judges attempts.

        Returns:
            One critique for each attempt, in their order.

        Raises:
            CriticError: the critic cannot judge this task.
        """
        ...
