"""Marked traces made by hand, and a critic that says what it is told to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sdbench import traces
from sdbench.critic_bench.marked import Marked
from sdbench.critic_bench.run import Candidate
from sdbench.records import (
    Attempt,
    Critique,
    CritiqueCase,
    FinishReason,
    Problem,
    Rollout,
    Verdict,
    VerdictStatus,
)

UNREADABLE = "unreadable"
SILENT = "silent"
Says = int | str | None


def marked(
    id: str,
    first_wrong: int | None,
    *,
    steps: int = 3,
    author: str = "A",
    category: str = "algebra",
    extra: str = "",
) -> Marked:
    """A trace of so many steps; its problem is what stands in its id before a slash."""
    name = id.partition("/")[0]
    problem = Problem(name, "champ", "test", f"What is {name}?", "1")
    text = traces.join([f"{id}, step {n}{extra}" for n in range(1, steps + 1)], "1")
    rollout = Rollout(id, name, 0, 0, (), (), (), text, FinishReason.STOP)
    verdict = Verdict(id, VerdictStatus.UNPARSABLE, None, "none")
    return Marked(Attempt(problem, rollout, verdict), author, category, steps, first_wrong)


def critique(id: str, says: Says, tokens: int = 10) -> Critique:
    """A critique that names this step, or says that all is right, or cannot be read."""
    if says == UNREADABLE:
        return Critique(id, "scripted", None, "mumble", None, tokens)
    assert not isinstance(says, str)
    case = CritiqueCase.CORRECT if says is None else CritiqueCase.INCORRECT
    return Critique(id, "scripted", case, "<answer>1</answer>", says, tokens)


@dataclass
class Scripted:
    """A critic that says what it is told to, the last trace first.

    Attributes:
        script: What it says of each trace.
        asked: The ids it was asked about, call by call.
        dies_after: So many critiques, and then it raises.
        closed: How often it was closed.
    """

    script: Mapping[str, Says]
    identity: str | None = "scripted-1"
    dies_after: int | None = None
    asked: list[list[str]] = field(default_factory=list)
    closed: int = 0

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """One for each attempt that it does not keep silent about."""
        self.asked.append([attempt.rollout.id for attempt in attempts])
        for count, attempt in enumerate(reversed(attempts)):
            if count == self.dies_after:
                raise KeyboardInterrupt
            says = self.script[attempt.rollout.id]
            if says != SILENT:
                yield critique(attempt.rollout.id, says)

    def close(self) -> None:
        """Counts."""
        self.closed += 1


def candidate(critic: Scripted, label: str = "scripted") -> Candidate:
    """The critic as the benchmark takes it."""
    entry = {"name": "scripted", "label": label, "options": {"wit": 3}}
    return Candidate(entry, critic, critic.identity or "")  # type: ignore[arg-type]
