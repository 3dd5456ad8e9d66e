"""What a benchmark folder's `results.json` holds, and what the report shows, as JSON objects.

Shares are fractions (0.25 is 25 %), times are seconds.
"""

from __future__ import annotations

from typing import TypedDict

from sdbench.rundir import JsonValue


class Figure(TypedDict):
    """A score with its 95 % interval, clustered by problem.

    `low` and `high` are None where there is none: for one problem, or too few traces of a kind.
    """

    value: float
    low: float | None
    high: float | None
    problems: int
    traces: int


class Scores(TypedDict):
    """Scores as `score` defines them; tokens and seconds are means over traces."""

    f1: Figure | None
    located: Figure | None
    near: Figure | None
    cleared: Figure | None
    exact: Figure | None
    detection_f1: Figure | None
    detection_precision: Figure | None
    detection_recall: Figure | None
    unreadable: Figure | None
    refused: Figure | None
    tokens: Figure | None
    seconds: Figure | None


class CriticEntry(TypedDict):
    """Which critic: its plugin's name, how it is called in print, and its options as resolved."""

    name: str
    label: str
    options: dict[str, JsonValue]


class DataEntry(TypedDict):
    """Which traces: `traces` of the data set's `of`; equal fingerprints mean the same ones."""

    name: str
    traces: int
    of: int
    problems: int
    erroneous: int
    error_free: int
    authors: dict[str, int]
    categories: dict[str, int]
    chosen: str
    fingerprint: str


class Ledger(TypedDict):
    """What the critiques of these traces cost, and how many could not be read or did not come.

    `refused` are those that could be read and that the critic's own audit holds something against.
    """

    critiques: int
    unreadable: int
    refused: int
    missing: int
    tokens: int
    seconds: float


class Result(TypedDict):
    """One critic on one data set.

    `provenance` is of the call that wrote this, `asked` of the calls that asked the critic.
    """

    critic: CriticEntry
    data: DataEntry
    scores: Scores
    by_author: dict[str, Scores]
    by_category: dict[str, Scores]
    controls: dict[str, Scores]
    ledger: Ledger
    provenance: dict[str, JsonValue]
    asked: list[JsonValue]
