"""What a run has cost so far, so that equal compute can be read off."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

from sdbench.rundir import Row


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time by stage; `total` holds the rest too."""

    rollout: float = 0.0
    feedback: float = 0.0
    teacher: float = 0.0
    update: float = 0.0
    checkpoint: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """Sums over updates.

    Attributes:
        updates: Optimiser updates.
        problems: Problems drawn, repeats counted.
        completions: Rollouts.
        tokens_generated: Completion tokens of all rollouts.
        tokens_trained: Completion tokens with a gradient.
        teacher_tokens: Tokens the teacher read, prompts included.
        critic_tokens: Tokens the critic read and wrote; 0 for a critic that is no model.
        critic_tokens_stored: Those of them that this run did not pay: the critique was bought by
            another run, or for another rollout that says the same. What a process of this run
            bought before it was killed counts as paid, so a continued run has the ledger of the
            undisturbed one.
        untaught_rollouts: Rollouts without feedback or with advantage 0 and no teacher.
        seconds: Wall time.
    """

    updates: int = 0
    problems: int = 0
    completions: int = 0
    tokens_generated: int = 0
    tokens_trained: int = 0
    teacher_tokens: int = 0
    critic_tokens: int = 0
    critic_tokens_stored: int = 0
    untaught_rollouts: int = 0
    seconds: Seconds = field(default_factory=Seconds)

    def plus(self, other: Ledger) -> Ledger:
        """The sum of both."""
        counts = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name != "seconds"
        }
        seconds = {
            f.name: getattr(self.seconds, f.name) + getattr(other.seconds, f.name)
            for f in fields(Seconds)
        }
        return Ledger(**counts, seconds=Seconds(**seconds))

    def timed(self, **seconds: float) -> Ledger:
        """The same with these stages' seconds set."""
        return replace(self, seconds=replace(self.seconds, **seconds))

    def as_row(self) -> Row:
        """JSON, seconds rounded to milliseconds."""
        row = asdict(self)
        row["seconds"] = {name: round(value, 3) for name, value in row["seconds"].items()}
        return row


def from_row(row: Row) -> Ledger:
    """Reads `Ledger.as_row` back."""
    table = dict(row)
    seconds = table.pop("seconds")
    assert isinstance(seconds, dict)
    return Ledger(**table, seconds=Seconds(**seconds))  # type: ignore[arg-type]
