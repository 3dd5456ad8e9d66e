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


class Bounds(TypedDict):
    """The ends of a 95 % interval; None where there is none. Every figure that has both keys fits."""

    low: float | None
    high: float | None


class Span(TypedDict):
    """A 95 % interval."""

    low: float
    high: float


class Checkpoints(TypedDict):
    """Labels of the checkpoint that was selected and of the last one.

    Where each half of the problems has its own, `selected` is `cross-fit` and `halves` names them.
    """

    selected: str
    last: str
    halves: list[str]


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
    critic_tokens_stored: int
    untaught_rollouts: int
    seconds: dict[str, float]


class RunEntry(TypedDict):
    """One run, or one model that was not trained here: seed 0, the suite's own being `base`."""

    condition: str
    seed: int
    trained: bool
    checkpoint: Checkpoints
    metrics: Metrics
    ledger: LedgerEntry


class Score(TypedDict):
    """A metric of a condition, averaged over its seeds.

    `low` and `high` go with problems (clustered by problem, seeds as they are); `these_problems` is
    what sampling these very problems again would give, known for Avg@k only; `seeds` is the
    two-level interval over problems and training seeds, None for a single seed.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    problems: int
    these_problems_standard_error: float | None
    these_problems: Span | None
    seeds: Span | None
    per_seed: list[float]


class LeaderboardRow(TypedDict):
    """One condition: metric names to scores at the selected and the last checkpoint."""

    condition: str
    seeds: list[int]
    trained: bool
    selected: dict[str, Score]
    last: dict[str, Score]


class Needed(TypedDict):
    """Problems that show a true difference of so many points with 80 % power.

    Attributes:
        points: The difference, in percentage points.
        problems: With as many samples a problem as were drawn.
        doubled: With twice as many samples; None where a problem has a single one.
    """

    points: int
    problems: int
    doubled: int | None


class Flips(TypedDict):
    """On how many problems the first scored above the second, below it, and the same."""

    won: int
    lost: int
    tied: int


class Pair(TypedDict):
    """First minus second in Avg@k at the selected checkpoints, paired by problem.

    `sampling_share` is the part of the variance over problems that the samples' own noise makes up,
    which more samples would lower; None where a problem has a single one.
    """

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
    sampling_share: float | None
    needed: list[Needed]
    flips: Flips
    problems: int
    survives: bool
    verdict: str


class Point(TypedDict):
    """A score after so many updates, on the split that checkpoints were selected on."""

    update: int
    value: float
    low: float | None
    high: float | None


class SeedCurve(TypedDict):
    """Scores of one run's checkpoints; by cross-fitting two of them are selected."""

    seed: int
    selected: list[int]
    last: int
    points: list[Point]


class Curve(TypedDict):
    """Scores of a condition's checkpoints, and their mean over seeds.

    `split` is `validation`, or `test` where checkpoints were selected by cross-fitting.
    """

    condition: str
    split: str
    metric: str
    mean: list[Point]
    seeds: list[SeedCurve]


class Reached(TypedDict):
    """A metric over m samples; None where one problem gives no interval."""

    m: int
    value: float
    low: float | None
    high: float | None


class Scaling(TypedDict):
    """Pass@m and Maj@m of a condition for m = 1 to k, at the selected checkpoints."""

    condition: str
    passed: list[Reached]
    majority: list[Reached]


class Endings(TypedDict):
    """How a condition's samples ended: shares that sum to 1, and their mean length.

    `untruncated_avg` is the share of right ones among those that were not truncated; None if all
    were.
    """

    condition: str
    correct: float
    wrong: float
    truncated: float
    unparsable: float
    timeout: float
    length: float
    untruncated_avg: float | None


class Localisation(TypedDict):
    """Share of the negative advantage that falls on the first wrong step."""

    pooled: float | None
    per_trace: Estimate | None
    uniform: float | None


class Advantage(TypedDict):
    """Per-token advantages of one condition on the common traces.

    `traces_asked` counts these; `traces` those on which the condition has feedback;
    `traces_with_wrong_step` those of them with a score: a wrong step, and an objection to something.
    """

    condition: str
    traces_asked: int | None
    traces: int
    traces_with_wrong_step: int | None
    policy: str
    localisation: Localisation
    mean_advantage: dict[str, Estimate | None]


class AuditShare(Estimate):
    """A mean over problems of what an audit found, and over how many critiques."""

    critiques: int


class CriticAudit(TypedDict):
    """The audit of the critiques that one run was trained on.

    Shares are None where no critique could be judged. `confusion` counts by the true case, where it is
    known, then by the case named; `faults` what the critic's own audit held against critiques.
    """

    condition: str
    seed: int
    critic: str
    truth: str | None
    attempts: int
    critiques: int
    problems: int
    shares: dict[str, AuditShare | None]
    ratio: AuditShare | None
    cases: dict[str, int]
    confusion: dict[str, dict[str, int]]
    faults: dict[str, int]


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
    sampling: list[str]
    verifiers: list[str]
    commands: list[str]


class Selection(TypedDict):
    """What trained runs selected their checkpoints on; empty where nothing was trained.

    `splits` holds `validation`, or `test` for cross-fitting, or both.
    """

    tasks: list[str]
    splits: list[str]


class Comparison(TypedDict):
    """The whole of `comparison.json`.

    `trial` says that only the first problems were taken, to try something out; `against` names the
    condition that each of the others is compared with, None where all pairs are.
    """

    title: str
    suite: str
    task: str
    k: int
    command: str
    organism: bool
    trial: bool
    selection: Selection
    headline: list[str]
    runs: list[RunEntry]
    leaderboard: list[LeaderboardRow]
    against: str | None
    pairs: list[Pair]
    scaling: list[Scaling]
    endings: list[Endings]
    curves: list[Curve]
    advantages: list[Advantage]
    critics: list[CriticAudit]
    examples: list[Example]
    ledger: list[LedgerRow]
    provenance: Provenance
