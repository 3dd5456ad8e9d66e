"""What `comparison.json` holds: everything the report shows, as JSON objects.

Fractions are fractions (0.25 is 25 %), lengths are tokens, advantages are nats, times are seconds.
"""

from __future__ import annotations

from typing import TypedDict


class Estimate(TypedDict):
    """A mean over problems; None where one problem gives no interval."""

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    problems: int
    these_problems_standard_error: float | None


class Span(TypedDict):
    """A 95 % interval."""

    low: float
    high: float


class Checkpoints(TypedDict):
    """Labels of the checkpoint that validation selected and of the last one."""

    selected: str
    last: str


class Metrics(TypedDict):
    """Metrics by name: on test at the selected and the last checkpoint, on validation."""

    test: dict[str, Estimate]
    test_last: dict[str, Estimate]
    validation: dict[str, Estimate]


class LedgerEntry(TypedDict):
    """What a run cost."""

    updates: int
    problems: int
    completions: int
    tokens_generated: int
    tokens_trained: int
    teacher_tokens: int
    critic_tokens: int
    untaught_rollouts: int
    seconds: dict[str, float]


class RunEntry(TypedDict):
    """One run; the untrained model is condition `base`, seed 0."""

    condition: str
    seed: int
    checkpoint: Checkpoints
    metrics: Metrics
    ledger: LedgerEntry


class Score(TypedDict):
    """A metric of a condition, averaged over its seeds.

    `low` and `high` go with problems (clustered by problem, seeds as they are); `seeds` is the
    two-level interval over problems and training seeds, None for a single seed.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    problems: int
    these_problems_standard_error: float | None
    seeds: Span | None
    per_seed: list[float]


class LeaderboardRow(TypedDict):
    """One condition: metric names to scores at the selected and the last checkpoint."""

    condition: str
    seeds: list[int]
    selected: dict[str, Score]
    last: dict[str, Score]


class Pair(TypedDict):
    """First minus second in Avg@k at the selected checkpoints, paired by problem."""

    first: str
    second: str
    difference: float
    standard_error: float | None
    low: float | None
    high: float | None
    bootstrap: Span | None
    seeds: Span | None
    p: float
    p_holm: float
    minimum_detectable: float | None
    problems: int
    survives: bool
    verdict: str


class Point(TypedDict):
    """A validation score after so many updates."""

    update: int
    value: float
    low: float | None
    high: float | None


class SeedCurve(TypedDict):
    """Validation scores of one run."""

    seed: int
    selected: int
    last: int
    points: list[Point]


class Curve(TypedDict):
    """Validation scores of a condition, and their mean over seeds."""

    condition: str
    metric: str
    mean: list[Point]
    seeds: list[SeedCurve]


class Localisation(TypedDict):
    """Share of the negative advantage that falls on the first wrong step."""

    pooled: float | None
    per_trace: Estimate | None
    uniform: float | None


class Advantage(TypedDict):
    """Per-token advantages of one condition on the common traces."""

    condition: str
    traces: int
    traces_with_wrong_step: int | None
    policy: str
    localisation: Localisation
    mean_advantage: dict[str, Estimate | None]


class Token(TypedDict):
    """One token of a trace with its advantage in nats and the role of its step."""

    text: str
    advantage: float
    role: str


class View(TypedDict):
    """The trace as one condition's teacher saw it."""

    condition: str
    context: str
    tokens: list[Token]


class Example(TypedDict):
    """One trace under each condition."""

    problem_id: str
    prompt: str
    answer: str
    correct: bool
    views: list[View]


class LedgerRow(TypedDict):
    """What a condition cost, mean over its seeds, and what it reached."""

    condition: str
    seeds: list[int]
    mean: LedgerEntry
    completions_selected: float


class Provenance(TypedDict):
    """Where the figures come from."""

    suite: dict[str, object]
    differing: list[str]
    started: list[str]
    git: list[str]
    versions: dict[str, str]
    hardware: list[str]
    model: str
    data: dict[str, str]
    verifiers: list[str]
    commands: list[str]


class Comparison(TypedDict):
    """The whole of `comparison.json`."""

    title: str
    suite: str
    task: str
    k: int
    command: str
    organism: bool
    headline: list[str]
    runs: list[RunEntry]
    leaderboard: list[LeaderboardRow]
    pairs: list[Pair]
    curves: list[Curve]
    advantages: list[Advantage]
    examples: list[Example]
    ledger: list[LedgerRow]
    provenance: Provenance
