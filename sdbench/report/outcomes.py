"""What a condition's samples came to: with more of them taken together, and how they ended.

In: the runs of one condition. Out: Pass@m and Maj@m for every m, and shares by kind of ending. All
are means over training seeds, problem by problem, at the selected checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from sdbench import stats
from sdbench.report.runs import Run, mean_over_seeds
from sdbench.report.schema import Endings, Reached, Scaling


def scaling(group: Sequence[Run]) -> Scaling:
    """Pass@m and Maj@m for m = 1 to k, with intervals over problems."""
    return {
        "condition": group[0].condition,
        "passed": _curve(group, "pass"),
        "majority": _curve(group, "maj"),
    }


def _curve(group: Sequence[Run], metric: str) -> list[Reached]:
    curve: list[Reached] = []
    for m in range(1, group[0].test.k + 1):
        values = mean_over_seeds([run.test.values_at(metric, m) for run in group])
        found = stats.estimate(values, share=True)
        curve.append({"m": m, "value": found.value, "low": found.low, "high": found.high})
    return curve


def endings(group: Sequence[Run]) -> Endings:
    """Shares of samples by how they ended; what is left of 1 had an answer, and a wrong one."""
    correct, truncated, unparsable, timeout, length = (
        _mean(group, name) for name in ("avg", "truncated", "unparsable", "timeout", "length")
    )
    # Sums of fractions may miss a round number by a last digit.
    kept = round(1 - truncated, 12)
    return {
        "condition": group[0].condition,
        "correct": correct,
        "wrong": max(0.0, round(1 - correct - truncated - unparsable - timeout, 12)),
        "truncated": truncated,
        "unparsable": unparsable,
        "timeout": timeout,
        "length": length,
        "untruncated_avg": correct / kept if kept > 0 else None,
    }


def _mean(group: Sequence[Run], name: str) -> float:
    return fmean(mean_over_seeds([run.test.values(name) for run in group]).values())
