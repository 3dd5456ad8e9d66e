"""What every critic is: attempts in, one critique each out, as they come.

A critic is frozen: it never trains, and the same attempt gets the same critique. What it writes
follows the study's scribe: correct steps verbatim, the first wrong one never quoted but replaced,
then on to the answer in the solver's own notation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from sdbench.config import PluginConfig
from sdbench.models import ORGANISM, Dtype
from sdbench.prompts import Style
from sdbench.records import Attempt, Critique, CritiqueCase
from sdbench.rundir import Row
from sdbench.traces import said

__all__ = [
    "Critic",
    "CriticSurroundings",
    "by_content",
    "content_key",
    "read_critique",
    "said",
    "shared",
]


@dataclass(frozen=True, slots=True)
class CriticSurroundings:
    """What a critic may use of the suite.

    Attributes:
        style: Of the suite's prompts; the solver's format is in it.
        thinking: Whether a critic that is a model may think first; None leaves it to its template.
        model: The suite's model as it is before any feedback.
        dtype: Of its weights.
        engine: The suite's engine.
    """

    style: Style
    thinking: bool | None = None
    model: str = ORGANISM
    dtype: Dtype = "float32"
    engine: PluginConfig = field(default_factory=lambda: PluginConfig(name="hf"))


class Critic(Protocol):
    """Judges rollouts step by step."""

    @property
    def identity(self) -> str | None:
        """What tells apart critics that may write differently: a name and a hash, fit for a file.

        None for a critic that costs nothing, whose critiques are not worth keeping.
        """
        ...

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """Judges attempts.

        Returns:
            At most one critique for each attempt, in any order, each as soon as it is there. An
            attempt without one, or with one that is not usable, is dropped from its update.

        Raises:
            CriticError: the critic cannot judge this task.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds, such as a model's memory."""
        ...


def content_key(attempt: Attempt) -> str:
    """What a critique depends on besides the critic: a hash of problem and rollout, ids left out."""
    problem = attempt.problem
    digest = hashlib.sha256()
    for part in (problem.prompt, problem.answer, problem.solution, attempt.rollout.text):
        # Its length goes first, so that no two contents run together to the same bytes.
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        digest.update(f"{'-' if part is None else len(data)}:".encode() + data)
    return digest.hexdigest()


def by_content(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """Attempts by `content_key`, in their order: those of one key get the same critique."""
    alike: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        alike.setdefault(content_key(attempt), []).append(attempt)
    return alike


def shared(critique: Critique, alike: Sequence[Attempt]) -> Iterator[Critique]:
    """One critique for all attempts that say the same; the first of them has paid for it."""
    for place, attempt in enumerate(alike):
        yield replace(critique, rollout_id=attempt.rollout.id, stored=place > 0)


def read_critique(row: Row) -> Critique:
    """A critique of the row that `rundir.to_row` made of it; fields that came later may be missing.

    Raises:
        KeyError: one that always was there is missing.
    """
    case = row["case"]
    return Critique(
        rollout_id=str(row["rollout_id"]),
        critic=str(row["critic"]),
        case=None if case is None else CritiqueCase(str(case)),
        text=str(row["text"]),
        first_wrong_step=cast("int | None", row["first_wrong_step"]),
        tokens=cast(int, row.get("tokens", 0)),
        faults=tuple(cast("list[str]", row.get("faults", []))),
        stored=bool(row.get("stored", False)),
    )
