"""Samples and verdicts to metrics, each with its uncertainty.

Avg@k, Pass@k and Maj@k over problems; the rate of traces with every step right, where an exact
checker knows the task; length in tokens; shares truncated and unparsable, counted apart from wrong.
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
    """Metrics over problems and the per-problem values they come from.

    Returns:
        `{"metrics": {name: Metric}, "per_problem": {id: {...}}}`, as in `results.json`.
    """
    outcomes = {s.problem.id: [v.correct for v in s.verdicts] for s in scored}
    votes = {s.problem.id: [stats.Vote(v.answer, v.correct) for v in s.verdicts] for s in scored}
    values: dict[str, ByProblem] = {
        f"avg@{k}": stats.avg_by_problem(outcomes),
        f"pass@{k}": stats.pass_by_problem(outcomes, k),
        f"maj@{k}": stats.maj_by_problem(votes, k),
        "length": _mean(scored, lambda s, v: float(s.completion_tokens)),
        "truncated": _mean(scored, lambda s, v: float(v.status is VerdictStatus.TRUNCATED)),
        "unparsable": _mean(scored, lambda s, v: float(v.status is VerdictStatus.UNPARSABLE)),
        "timeout": _mean(scored, lambda s, v: float(v.status is VerdictStatus.TIMEOUT)),
    }
    steps_right = _all_steps_right(scored)
    if steps_right is not None:
        values[f"all_steps_right@{k}"] = steps_right
    metrics = {
        name: asdict(stats.estimate(by_problem, outcomes if name.startswith("avg@") else None))
        for name, by_problem in values.items()
    }
    per_problem: Row = {
        problem: {
            **{name.partition("@")[0]: by_problem[problem] for name, by_problem in values.items()},
            "correct": [int(outcome) for outcome in outcomes[problem]],
        }
        for problem in outcomes
    }
    return {"metrics": cast(Row, metrics), "per_problem": per_problem}


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
