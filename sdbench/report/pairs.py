"""Every pair of conditions compared on the same problems, and what it would take to show more.

In: runs by condition. Out: for each pair the difference with both intervals, the corrected p-value,
how many problems would show a difference of a given size, and on how many problems each is ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sdbench import stats
from sdbench.errors import DataError
from sdbench.report import wording
from sdbench.report.runs import ByProblem, Run, mean_over_seeds, these_problems_error
from sdbench.report.schema import Flips, Needed, Pair, Span

EFFECTS = (2, 5)
TIE = 1e-9


@dataclass(frozen=True, slots=True)
class _Scores:
    """Avg@k of a condition: by seed and problem, and the variance of one sample (None for k = 1)."""

    by_seed: list[ByProblem]
    within: float | None
    k: int


def pairs_of(
    by_condition: Mapping[str, Sequence[Run]], k: int, against: str | None = None
) -> list[Pair]:
    """Pairs in the order of the conditions, so that what was not trained comes second.

    Args:
        by_condition: The runs.
        k: Samples a problem.
        against: The condition that each of the others is subtracted from; None for all pairs.

    Raises:
        DataError: `against` is none of them.
    """
    if against is not None and against not in by_condition:
        raise DataError(
            f"no run of condition {against!r} to compare with; found: {', '.join(by_condition)}"
        )
    scores = {condition: _scores(group, k) for condition, group in by_condition.items()}
    names = (
        combinations(scores, 2)
        if against is None
        else ((against, other) for other in scores if other != against)
    )
    found = {
        (first, second): stats.paired_difference(scores[first].by_seed, scores[second].by_seed)
        for first, second in names
    }
    adjusted = stats.holm({f"{a} - {b}": one.p_value for (a, b), one in found.items()})
    return [
        _pair(
            (first, second), (scores[first], scores[second]), one, adjusted[f"{first} - {second}"]
        )
        for (first, second), one in found.items()
    ]


def _scores(group: Sequence[Run], k: int) -> _Scores:
    """The variance of one sample about its problem's score is n k e^2; see `difference_variance`."""
    name = f"avg@{k}"
    by_seed = [run.test.values(name) for run in group]
    error = these_problems_error([run.test.metrics[name] for run in group])
    return _Scores(by_seed, None if error is None else len(by_seed[0]) * k * error**2, k)


def _pair(
    names: tuple[str, str], scores: tuple[_Scores, _Scores], found: stats.Difference, p_holm: float
) -> Pair:
    share = _sampling_share(scores, found)
    pair: Pair = {
        "first": names[0],
        "second": names[1],
        "difference": found.value,
        "standard_error": found.standard_error,
        "low": found.interval.low if found.interval else None,
        "high": found.interval.high if found.interval else None,
        "bootstrap": span(found.bootstrap),
        "seeds": span(found.seeds),
        "p": found.p_value,
        "p_holm": p_holm,
        "minimum_detectable": found.minimum_detectable,
        "sampling_share": share,
        "needed": _needed(found, share),
        "flips": _flips(*(mean_over_seeds(one.by_seed) for one in scores)),
        "problems": found.problems,
        "survives": p_holm <= stats.ALPHA,
        "verdict": "",
    }
    return {**pair, "verdict": wording.verdict(pair)}


def _variance(found: stats.Difference) -> float | None:
    """Of one problem's observed difference; None for one problem, or where no spread was seen."""
    return found.standard_error**2 * found.problems if found.standard_error else None


def _sampling_share(scores: tuple[_Scores, _Scores], found: stats.Difference) -> float | None:
    """The part of the observed variance that the samples' noise makes up, at most all of it."""
    first, second = (one.within for one in scores)
    observed = _variance(found)
    if first is None or second is None or observed is None:
        return None
    noise = stats.difference_variance(between=0, first=first, second=second, samples=scores[0].k)
    return min(1.0, noise / observed)


def _needed(found: stats.Difference, share: float | None) -> list[Needed]:
    """Twice the samples halve the samples' part of the variance and leave the rest."""
    observed = _variance(found)
    if observed is None:
        return []
    doubled = None if share is None else observed * (1 - share / 2)
    return [
        {
            "points": points,
            "problems": stats.problems_needed(observed, points / 100),
            "doubled": None if doubled is None else stats.problems_needed(doubled, points / 100),
        }
        for points in EFFECTS
    ]


def _flips(first: ByProblem, second: ByProblem) -> Flips:
    differences = [first[problem] - second[problem] for problem in first]
    won = sum(one > TIE for one in differences)
    lost = sum(one < -TIE for one in differences)
    return {"won": won, "lost": lost, "tied": len(differences) - won - lost}


def span(interval: stats.Interval | None) -> Span | None:
    """An interval as JSON."""
    return None if interval is None else {"low": interval.low, "high": interval.high}
