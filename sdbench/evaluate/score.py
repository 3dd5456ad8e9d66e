"""Samples and verdicts to metrics, each with its uncertainty.

Avg@k, and Pass@m and Maj@m for every m up to k; the rate of traces with every step right, where an
exact checker knows the task; length in tokens; shares truncated, unparsable and overdue, counted
apart from wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import cast

from sdbench import stats
from sdbench.critics import oracle
from sdbench.records import Metric, Problem, Sample, Verdict, VerdictStatus
from sdbench.rundir import Row

ByProblem = dict[str, float]

OVER_SAMPLES = ("avg", "pass", "maj", "all_steps_right")
LISTS = ("correct", "pass_at", "maj_at")
COUNTED = (VerdictStatus.TRUNCATED, VerdictStatus.UNPARSABLE, VerdictStatus.TIMEOUT)


@dataclass(frozen=True, slots=True)
class Scored:
    """The samples of one problem with their verdicts, in order of index."""

    problem: Problem
    samples: tuple[Sample, ...]
    verdicts: tuple[Verdict, ...]


def join(
    problems: Sequence[Problem], samples: Sequence[Sample], verdicts: Sequence[Verdict]
) -> list[Scored]:
    """Joins by id.

    Raises:
        KeyError: a sample has no verdict.
    """
    by_id = {verdict.id: verdict for verdict in verdicts}
    by_problem: dict[str, list[Sample]] = {problem.id: [] for problem in problems}
    for sample in sorted(samples, key=lambda s: s.index):
        by_problem[sample.problem_id].append(sample)
    return [
        Scored(p, tuple(by_problem[p.id]), tuple(by_id[s.id] for s in by_problem[p.id]))
        for p in problems
    ]


def score(scored: Sequence[Scored], k: int) -> Row:
    """Metrics over problems and the per-problem values they come from; see `summarise`."""
    outcomes = {s.problem.id: [v.correct for v in s.verdicts] for s in scored}
    votes = {s.problem.id: [stats.Vote(v.answer, v.correct) for v in s.verdicts] for s in scored}
    passed = [stats.pass_by_problem(outcomes, m) for m in range(1, k + 1)]
    majority = [stats.maj_by_problem(votes, m) for m in range(1, k + 1)]
    values: dict[str, ByProblem] = {
        "avg": stats.avg_by_problem(outcomes),
        "pass": passed[-1],
        "maj": majority[-1],
        "length": _mean(scored, lambda s, v: float(s.completion_tokens)),
        **{status: _share(scored, status) for status in COUNTED},
    }
    steps_right = _all_steps_right(scored)
    if steps_right is not None:
        values["all_steps_right"] = steps_right
    per_problem: Row = {
        problem: {
            **{name: by_problem[problem] for name, by_problem in values.items()},
            "correct": [int(outcome) for outcome in outcomes[problem]],
            "pass_at": [by_problem[problem] for by_problem in passed],
            "maj_at": [by_problem[problem] for by_problem in majority],
        }
        for problem in outcomes
    }
    return summarise(per_problem, k)


def summarise(per_problem: Row, k: int) -> Row:
    """Metrics over problems, from the values of each problem.

    Args:
        per_problem: For each problem its `avg`, `pass`, `maj`, `length` and so on, the outcome of
            each sample under `correct`, and Pass@m and Maj@m for m = 1 to k under `pass_at` and
            `maj_at`.
        k: Samples a problem.

    Returns:
        `{"metrics": {name: Metric}, "curves": {"pass": [Metric], "maj": [Metric]}, "per_problem":
        {...}}`, as in `results.json`; number m - 1 of a curve is for m samples.
    """
    rows = cast("dict[str, dict[str, float]]", per_problem)
    lists = cast("dict[str, dict[str, list[float]]]", per_problem)
    outcomes = {problem: [bool(one) for one in row["correct"]] for problem, row in lists.items()}
    names = [name for name in next(iter(rows.values())) if name not in LISTS]
    metrics: Row = {}
    for name in names:
        values = {problem: row[name] for problem, row in rows.items()}
        found = stats.estimate(values, outcomes if name == "avg" else None, share=name != "length")
        metrics[f"{name}@{k}" if name in OVER_SAMPLES else name] = asdict(found)
    curves: Row = {
        name: [
            asdict(
                stats.estimate({p: row[f"{name}_at"][m] for p, row in lists.items()}, share=True)
            )
            for m in range(k)
        ]
        for name in ("pass", "maj")
    }
    return {"metrics": metrics, "curves": curves, "per_problem": per_problem}


def _share(scored: Sequence[Scored], status: VerdictStatus) -> ByProblem:
    return _mean(scored, lambda _, verdict: float(verdict.status is status))


def _mean(scored: Sequence[Scored], value: Callable[[Sample, Verdict], float]) -> ByProblem:
    return {
        s.problem.id: fmean(value(a, b) for a, b in zip(s.samples, s.verdicts, strict=True))
        for s in scored
    }


def _all_steps_right(scored: Sequence[Scored]) -> ByProblem | None:
    if not all(oracle.judges(s.problem.task) for s in scored):
        return None
    return {
        s.problem.id: fmean(oracle.examine(s.problem, one.text).all_right for one in s.samples)
        for s in scored
    }


def metric_of(results: Row, name: str) -> Metric:
    """A metric of a `results.json`."""
    metrics = results["metrics"]
    assert isinstance(metrics, dict)
    return Metric(**metrics[name])  # type: ignore[arg-type]
