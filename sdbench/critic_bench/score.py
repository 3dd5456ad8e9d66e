"""How well the first wrong step was found, and what it would be without a critic.

In: traces of which it is known, and what was said of each. Out: scores with 95 % intervals clustered by
problem. As in ProcessBench (2412.06559), traces with an error and traces without one are scored apart,
since it is easy to do well on either alone: `located` is the share of erroneous traces whose first
wrong step was named exactly, `cleared` the share of error-free traces that were said to be right, and
`f1` their harmonic mean. `near` allows the step to be off by one, `exact` counts all traces alike.

`detection_*` ask only whether there is an error: recall over erroneous traces, precision over those that
were said to hold one, and their harmonic mean.

An answer that cannot be read is never left out: it is wrong in each of these, a miss on an erroneous
trace and a false alarm on one without an error. One that can be read counts as what it says, also where
the critic's own audit holds something against it, such as a wrong answer; `refused` is their share.

The controls say without reading what a critic might say: always step 1, always that all is right, or,
with equal chances, any of the trace's steps or that all is right. They are computed, not drawn.

Departures from ProcessBench: the intervals, all scores but the first three, and that a step may be
missing, or the answer alone be wrong, which counts as an error in the step after the last one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sdbench import stats
from sdbench.critic_bench.marked import Marked
from sdbench.critic_bench.schema import Figure, Scores
from sdbench.records import Critique

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Says = Mapping[int | None, float]
GUESS = "guesses evenly"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was said of one trace, against what is known; chances are 0 or 1 unless somebody guessed.

    Attributes:
        problem_id: Of the trace's problem.
        author: Who wrote the trace.
        category: Of its problem.
        erroneous: Whether it has an error.
        exact: Chance that the first wrong step, or that there is none, was named.
        near: The same, off by at most one step.
        alarmed: Chance that it was said to hold an error.
        unreadable: Whether nothing could be read.
        refused: Whether it could, but the critic's own audit holds something against it.
        tokens: That the critic read and wrote.
        seconds: That it took.
    """

    problem_id: str
    author: str
    category: str
    erroneous: bool
    exact: float
    near: float
    alarmed: float
    unreadable: bool = False
    refused: bool = False
    tokens: int = 0
    seconds: float = 0.0


def judge(trace: Marked, critique: Critique, seconds: float) -> Finding:
    """Sets a critique against what is known of its trace."""
    readable = critique.case is not None
    says: Says = {critique.first_wrong_step: 1.0} if readable else {}
    flagged = critique.first_wrong_step is not None if readable else trace.first_wrong is None
    return replace(
        _finding(trace, says, float(flagged)),
        unreadable=not readable,
        refused=readable and not critique.usable,
        tokens=critique.tokens,
        seconds=seconds,
    )


def always_first(trace: Marked) -> Says:
    """Says that step 1 is wrong."""
    return {1: 1.0}


def always_right(trace: Marked) -> Says:
    """Says that all is right."""
    return {None: 1.0}


def guess(trace: Marked) -> Says:
    """Names any step, or none, with equal chances."""
    options = [None, *range(1, trace.steps + 1)]
    return dict.fromkeys(options, 1 / len(options))


CONTROLS: dict[str, Callable[[Marked], Says]] = {
    GUESS: guess,
    "always says step 1": always_first,
    "always says all right": always_right,
}


def controls(traces: Sequence[Marked]) -> dict[str, list[Finding]]:
    """What each control says of these traces."""
    return {
        name: [_of_control(trace, says(trace)) for trace in traces]
        for name, says in CONTROLS.items()
    }


def scores(findings: Sequence[Finding]) -> Scores:
    """Scores by name; None for what these traces cannot tell."""
    wrong = [one for one in findings if one.erroneous]
    right = [one for one in findings if not one.erroneous]
    return {
        "f1": _f1(findings),
        "located": _rate(wrong, lambda one: one.exact),
        "near": _rate(wrong, lambda one: one.near),
        "cleared": _rate(right, lambda one: one.exact),
        "exact": _rate(findings, lambda one: one.exact),
        "detection_f1": _of_sums(findings, _detection_sums, _detection_f1),
        "detection_precision": _of_sums(findings, _detection_sums, _precision),
        "detection_recall": _rate(wrong, lambda one: one.alarmed),
        "unreadable": _rate(findings, lambda one: float(one.unreadable)),
        "refused": _rate(findings, lambda one: float(one.refused)),
        "tokens": _mean(findings, lambda one: float(one.tokens)),
        "seconds": _mean(findings, lambda one: one.seconds),
    }


def scores_by(findings: Sequence[Finding], of: Callable[[Finding], str]) -> dict[str, Scores]:
    """Scores of each author or category, by name."""
    groups: defaultdict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        groups[of(one)].append(one)
    return {name: scores(groups[name]) for name in sorted(groups)}


def _of_control(trace: Marked, says: Says) -> Finding:
    return _finding(trace, says, sum(says.values()) - says.get(None, 0.0))


def _finding(trace: Marked, says: Says, alarmed: float) -> Finding:
    truth = trace.first_wrong
    exact = says.get(truth, 0.0)
    beside = () if truth is None else (truth - 1, truth + 1)
    return Finding(
        problem_id=trace.problem_id,
        author=trace.author,
        category=trace.category,
        erroneous=truth is not None,
        exact=exact,
        near=exact + sum(says.get(step, 0.0) for step in beside),
        alarmed=alarmed,
    )


def _rate(findings: Sequence[Finding], of: Callable[[Finding], float]) -> Figure | None:
    return _mean(findings, of, share=True)


def _mean(
    findings: Sequence[Finding], of: Callable[[Finding], float], *, share: bool = False
) -> Figure | None:
    if not findings:
        return None
    found = stats.pooled_estimate(_by_problem(findings, of), share=share)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "problems": found.problems,
        "traces": len(findings),
    }


def _by_problem(
    findings: Iterable[Finding], of: Callable[[Finding], float]
) -> dict[str, list[float]]:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for one in findings:
        groups[one.problem_id].append(of(one))
    return groups


def _f1(findings: Sequence[Finding]) -> Figure | None:
    return _of_sums(findings, _location_sums, _location_f1)


def _of_sums(
    findings: Sequence[Finding],
    summands: Callable[[Finding], tuple[float, ...]],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Figure | None:
    """A statistic of sums over traces, with a bootstrap over problems."""
    import numpy as np

    by_problem: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for one in findings:
        by_problem[one.problem_id].append(summands(one))
    sums = {problem: np.sum(rows, axis=0).tolist() for problem, rows in by_problem.items()}
    if not sums:
        return None
    value = float(statistic(np.sum([*sums.values()], axis=0)[None])[0])
    if np.isnan(value):
        return None
    found = stats.bootstrap_of_sums(sums, statistic)
    return {
        "value": value,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "problems": len(sums),
        "traces": len(findings),
    }


def _location_sums(one: Finding) -> tuple[float, ...]:
    """Erroneous, of these located, error-free, of these cleared."""
    wrong = float(one.erroneous)
    return wrong, wrong * one.exact, 1 - wrong, (1 - wrong) * one.exact


def _location_f1(sums_RC: NDArray[np.float64]) -> NDArray[np.float64]:
    wrong_R, located_R, right_R, cleared_R = sums_RC.T
    return _harmonic(_share(located_R, wrong_R), _share(cleared_R, right_R))


def _detection_sums(one: Finding) -> tuple[float, ...]:
    """Erroneous, said to be, and both."""
    wrong = float(one.erroneous)
    return wrong, one.alarmed, wrong * one.alarmed


def _precision(sums_RC: NDArray[np.float64]) -> NDArray[np.float64]:
    return _share(sums_RC[:, 2], sums_RC[:, 1])


def _detection_f1(sums_RC: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN), which is 0 where no alarm was given."""
    wrong_R, alarmed_R, both_R = sums_RC.T
    return _share(2 * both_R, wrong_R + alarmed_R)


def _share(part_R: NDArray[np.float64], whole_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN for a share of nothing."""
    import numpy as np

    share_R = np.full_like(whole_R, np.nan)
    np.divide(part_R, whole_R, out=share_R, where=whole_R > 0)
    return share_R


def _harmonic(a_R: NDArray[np.float64], b_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonic mean; 0 where both are 0, NaN where either is."""
    import numpy as np

    mean_R = np.where(np.isnan(a_R + b_R), np.nan, 0.0)
    np.divide(2 * a_R * b_R, a_R + b_R, out=mean_R, where=a_R + b_R > 0)
    return mean_R
