"""What every critic is: attempts in, one critique each out.

A critic is frozen: it never trains, and the same attempt gets the same critique. What it writes
follows the study's scribe: correct steps verbatim, the first wrong one never quoted but replaced,
then on to the answer in the solver's own notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sdbench.prompts import Style
from sdbench.records import Attempt, Critique


@dataclass(frozen=True, slots=True)
class CriticSurroundings:
    """What a critic may use of the suite.

    Attributes:
        style: Of the suite's prompts; the solver's format is in it.
        thinking: Whether a critic that is a model may think first; None leaves it to its template.
    """

    style: Style
    thinking: bool | None = None


class Critic(Protocol):
    """Judges rollouts step by step."""

    def critique(self, attempts: Sequence[Attempt]) -> list[Critique]:
        """Judges attempts.

        Returns:
            At most one critique for each attempt, in their order. An attempt without one, or with
            one that has no case because it could not be read, is dropped from its update.

        Raises:
            CriticError: the critic cannot judge this task.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds, such as a model's memory."""
        ...


def said(text: str) -> str:
    """What a completion says after it has thought; nothing if it never stops thinking."""
    _, ended, after = text.rpartition("</think>")
    if not ended:
        return "" if "<think>" in text else text
    return after.lstrip()
