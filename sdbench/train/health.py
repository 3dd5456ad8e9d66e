"""How the rollouts of an update look, and a warning when they run away, or are dropped.

Self-distillation can drive a policy to endless or repetitive completions within tens of updates, and
the loss does not show it: 2604.08527 saw truncation reach 1 and repetition .3 to .6 within 30.

A condition drops rollouts on which it has no usable feedback. One that drops most of them still trains,
on few, and its loss does not show that either.

`rollout/repetition` is defined here: of the runs of four tokens in a completion, the share that stood
in it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import cast

from sdbench.conditions.base import Group
from sdbench.records import DROPS, FinishReason
from sdbench.rundir import Row

RUN_LENGTH = 4
WINDOW = 3
MOST = 0.5


@dataclass(frozen=True, slots=True)
class Limit:
    """When a metric has run away: its mean over three updates against that of the first three.

    Attributes:
        metric: Its name.
        what: What it is, for the warning.
        factor: It must be at least so many times the first.
        rise: It must lie at least so much above the first.
        level: It must be at least this.
    """

    metric: str
    what: str
    factor: float = 1.0
    rise: float = 0.0
    level: float = 0.0


LIMITS = (
    Limit("rollout/length", "mean completion length in tokens", factor=1.5),
    Limit("rollout/truncated", "share of completions at the token cap", rise=0.2, level=0.3),
    Limit("rollout/repetition", "share of repeated runs of tokens", rise=0.15, level=0.25),
)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Reward, length, endings, repetition and flat groups of one update."""
    attempts = [attempt for group in groups for attempt in group.attempts]
    flat = [len({a.verdict.correct for a in group.attempts}) == 1 for group in groups]
    return {
        "rollout/reward": fmean(a.verdict.correct for a in attempts),
        "rollout/length": fmean(len(a.rollout.completion_ids) for a in attempts),
        "rollout/truncated": fmean(
            a.rollout.finish_reason is FinishReason.LENGTH for a in attempts
        ),
        "rollout/repetition": fmean(repetition(a.rollout.completion_ids) for a in attempts),
        "rollout/flat_groups": fmean(flat),
    }


def repetition(ids: Sequence[int]) -> float:
    """Share of a completion's runs of four tokens that stood in it before; 0 if it has none."""
    runs = [tuple(ids[start : start + RUN_LENGTH]) for start in range(len(ids) - RUN_LENGTH + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class Watch:
    """Sees the log of a run, row by row, and warns once of each metric that runs away."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Starts with the rows that a run to be continued has already."""
        self._seen: dict[str, list[float]] = {limit.metric: [] for limit in LIMITS}
        self._dropped: list[float] = []
        self._warned: set[str] = set()
        for row in rows:
            self.see(row)

    def see(self, row: Row) -> list[str]:
        """Takes in the log of an update.

        Returns:
            The warnings that it is the first to give.
        """
        warnings = []
        for limit in LIMITS:
            values = self._seen[limit.metric]
            values.append(cast(float, row[limit.metric]))
            if limit.metric in self._warned or len(values) < 2 * WINDOW:
                continue
            first, now = fmean(values[:WINDOW]), fmean(values[-WINDOW:])
            if now >= max(limit.factor * first, first + limit.rise, limit.level):
                self._warned.add(limit.metric)
                warnings.append(f"{limit.what} went from {first:.3g} to {now:.3g}")
        return warnings + self._drops(row)

    def _drops(self, row: Row) -> list[str]:
        shares = {reason: cast(float, row.get(f"feedback/{reason}", 0.0)) for reason in DROPS}
        self._dropped.append(sum(shares.values()))
        share = fmean(self._dropped[-WINDOW:])
        if "dropped" in self._warned or len(self._dropped) < WINDOW or share <= MOST:
            return []
        self._warned.add("dropped")
        why = max(shares, key=lambda reason: shares[reason])
        return [f"{share:.0%} of the rollouts are dropped, most of them as {why!r}"]
