"""Run folders to one comparison: the data behind every figure and table of a report.

In: folders of runs that were evaluated. Out: a `Comparison`, the contents of `comparison.json`.
Checkpoints were selected on validation; everything compared here was measured on test. Scores of a
condition are means over its training seeds, taken problem by problem before anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean
from typing import cast

from sdbench import stats
from sdbench.report import wording
from sdbench.report.outcomes import endings, scaling
from sdbench.report.pairs import pairs_of, span
from sdbench.report.runs import (
    BASE,
    Evaluation,
    Run,
    mean_over_seeds,
    read_all,
    these_problems_error,
)
from sdbench.report.schema import (
    Advantage,
    AuditShare,
    Comparison,
    CriticAudit,
    Curve,
    Estimate,
    Example,
    LeaderboardRow,
    LedgerEntry,
    LedgerRow,
    Localisation,
    Point,
    Provenance,
    RunEntry,
    Score,
    SeedCurve,
    Selection,
    Span,
    Token,
)
from sdbench.rundir import JsonValue, Row

ORGANISM = "organism"


def build(
    runs: Sequence[Path],
    title: str,
    command: str,
    task: str | None = None,
    against: str | None = None,
) -> Comparison:
    """Compares runs.

    Args:
        runs: Run folders, or folders of models that were not trained here; one is enough, and the
            suite's untrained model need not be among them.
        title: The report's title.
        command: What repeats the report.
        task: Whose results are compared; None for the task that the runs were made for.
        against: The condition that each of the others is compared with; None compares all pairs.

    Returns:
        The contents of `comparison.json`.

    Raises:
        DataError: no folder, a folder that is missing, is no run or has no evaluation, or runs that
            were not evaluated on this task or not on the same problems, or none of `against`.
    """
    found = read_all(runs, task)
    by_condition: dict[str, list[Run]] = {}
    for run in found:
        by_condition.setdefault(run.condition, []).append(run)
    first = found[0]
    leaderboard = sorted(
        (_leaderboard_row(group) for group in by_condition.values()),
        key=lambda row: -row["selected"][f"avg@{first.test.k}"]["value"],
    )
    pairs = pairs_of(by_condition, first.test.k, against)
    trial = any(run.test.trial or run.test_last.trial for run in found)
    return {
        "title": title,
        "suite": str(first.manifest.get("suite_name") or "") if _of_suite(first) else "",
        "task": first.task,
        "k": first.test.k,
        "command": command,
        "organism": any(run.suite.get("model") == ORGANISM for run in found),
        "trial": trial,
        "selection": _selection(found),
        "headline": wording.headline(leaderboard, pairs, first.test.k, trial=trial),
        "runs": [_run_entry(run) for run in found],
        "leaderboard": leaderboard,
        "against": against,
        "pairs": pairs,
        "scaling": [scaling(group) for group in by_condition.values()],
        "endings": [endings(group) for group in by_condition.values()],
        "curves": [_curve(group) for group in by_condition.values() if group[0].scores],
        "advantages": [_advantage(run) for run in _told(by_condition)],
        "critics": [_audit(run) for run in found if run.audit],
        "examples": _examples(_told(by_condition)),
        "ledger": [_ledger_row(group) for group in by_condition.values() if group[0].trained],
        "provenance": _provenance(found),
    }


def _selection(runs: Sequence[Run]) -> Selection:
    trained = [run for run in runs if run.trained]
    return {
        "tasks": _distinct(cast(Row, run.manifest["data"])["task"] for run in trained),
        "splits": _distinct(run.split for run in trained),
    }


def _run_entry(run: Run) -> RunEntry:
    return {
        "condition": run.condition,
        "seed": run.seed,
        "trained": run.trained,
        "checkpoint": {"selected": run.selected, "last": run.last, "halves": list(run.halves)},
        "metrics": {
            "test": run.test.metrics,
            "test_last": run.test_last.metrics,
            "validation": _validated(run),
        },
        "ledger": _ledger_entry(run),
    }


def _validated(run: Run) -> dict[str, Estimate]:
    """What the selected checkpoint scored on validation; cross-fitting has no validation."""
    if run.split != "validation":
        return {}
    if run.selected in run.checked:
        return run.checked[run.selected].metrics
    return {run.metric: run.scores[run.selected]} if run.scores else {}


def _leaderboard_row(group: Sequence[Run]) -> LeaderboardRow:
    selected = _scores([run.test for run in group])
    same = all(run.selected == run.last for run in group)
    return {
        "condition": group[0].condition,
        "seeds": [run.seed for run in group],
        "trained": group[0].trained,
        "selected": selected,
        "last": selected if same else _scores([run.test_last for run in group]),
    }


def _scores(by_seed: Sequence[Evaluation]) -> dict[str, Score]:
    names = [name for name in by_seed[0].metrics if all(name in one.metrics for one in by_seed)]
    return {name: _score(by_seed, name) for name in names}


def _score(by_seed: Sequence[Evaluation], metric: str) -> Score:
    """Mean over seeds; its error over these very problems follows from the seeds' independence."""
    values = [one.values(metric) for one in by_seed]
    found = stats.estimate(mean_over_seeds(values), share=metric != "length")
    these = these_problems_error([one.metrics[metric] for one in by_seed])
    return {
        "value": found.value,
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "problems": found.problems,
        "these_problems_standard_error": these,
        "these_problems": None if these is None else _normal_interval(found.value, these),
        "seeds": span(stats.seed_interval(values)) if len(values) > 1 else None,
        "per_seed": [fmean(one.values()) for one in values],
    }


def _normal_interval(value: float, error: float) -> Span:
    """Samples are many, n times k, so no t is needed."""
    half = NormalDist().inv_cdf(0.5 + stats.CONFIDENCE / 2) * error
    return {"low": value - half, "high": value + half}


def _curve(group: Sequence[Run]) -> Curve:
    labels = [label for label in group[0].scores if all(label in run.scores for run in group)]
    return {
        "condition": group[0].condition,
        "split": group[0].split,
        "metric": group[0].metric,
        "mean": [_mean_point(group, label) for label in labels],
        "seeds": [_seed_curve(run) for run in group],
    }


def _mean_point(group: Sequence[Run], label: str) -> Point:
    """Mean over seeds, with an interval over problems where the evaluations are still there."""
    values = [
        run.checked[label].values(run.metric)
        for run in group
        if label in run.checked and run.metric in run.checked[label].metrics
    ]
    if len(values) == len(group) and len({frozenset(one) for one in values}) == 1:
        found = stats.estimate(mean_over_seeds(values), share=True)
        return {"update": int(label), "value": found.value, "low": found.low, "high": found.high}
    mean = fmean(run.scores[label]["value"] for run in group)
    return {"update": int(label), "value": mean, "low": None, "high": None}


def _seed_curve(run: Run) -> SeedCurve:
    return {
        "seed": run.seed,
        "selected": list(run.chosen),
        "last": int(run.last),
        "points": [
            {"update": int(label), "value": s["value"], "low": s["low"], "high": s["high"]}
            for label, s in sorted(run.scores.items())
        ],
    }


def _told(by_condition: Mapping[str, Sequence[Run]]) -> list[Run]:
    """One run of each condition with a teacher: the traces are the untrained model's for all."""
    with_teacher = ((run for run in group if run.advantage) for group in by_condition.values())
    return [run for runs in with_teacher for run in [next(runs, None)] if run is not None]


def _advantage(run: Run) -> Advantage:
    found = cast(Row, run.advantage)
    return {
        "condition": run.condition,
        "traces_asked": cast("int | None", found.get("traces_asked")),
        "traces": cast(int, found["traces"]),
        "traces_with_wrong_step": cast("int | None", found.get("traces_with_wrong_step")),
        "policy": str(found["policy"]),
        "localisation": cast(Localisation, found["localisation"]),
        "mean_advantage": cast("dict[str, Estimate | None]", found["mean_advantage"]),
    }


def _audit(run: Run) -> CriticAudit:
    found = cast(Row, run.audit)
    lengths = cast("dict[str, AuditShare | None]", found["lengths"])
    return {
        "condition": run.condition,
        "seed": run.seed,
        "critic": str(found["critic"]),
        "truth": cast("str | None", found["truth"]),
        "attempts": cast(int, found["attempts"]),
        "critiques": cast(int, found["critiques"]),
        "problems": cast(int, found["problems"]),
        "shares": cast("dict[str, AuditShare | None]", found["shares"]),
        "ratio": lengths["ratio"],
        "cases": cast("dict[str, int]", found["cases"]),
        "confusion": cast("dict[str, dict[str, int]]", found["confusion"]),
        "faults": cast("dict[str, int]", found["faults"]),
    }


def _examples(told: Sequence[Run]) -> list[Example]:
    """Traces by problem, in the order of the first condition that shows them."""
    examples: dict[str, Example] = {}
    for run in told:
        for row in cast("list[Row]", cast(Row, run.advantage)["examples"]):
            problem = str(row["problem_id"])
            example = examples.setdefault(
                problem,
                {
                    "problem_id": problem,
                    "prompt": str(row["prompt"]),
                    "answer": str(row["answer"]),
                    "correct": bool(row["correct"]),
                    "views": [],
                },
            )
            example["views"].append(
                {
                    "condition": run.condition,
                    "context": str(row["context"]),
                    "tokens": cast("list[Token]", row["tokens"]),
                }
            )
    return list(examples.values())


def _ledger_entry(run: Run) -> LedgerEntry:
    row = cast("dict[str, float]", run.manifest.get("ledger") or {})
    seconds = cast("dict[str, float]", row.get("seconds") or {})
    return {
        "updates": int(row.get("updates", 0)),
        "problems": int(row.get("problems", 0)),
        "completions": int(row.get("completions", 0)),
        "tokens_generated": int(row.get("tokens_generated", 0)),
        "tokens_trained": int(row.get("tokens_trained", 0)),
        "teacher_tokens": int(row.get("teacher_tokens", 0)),
        "critic_tokens": int(row.get("critic_tokens", 0)),
        "critic_tokens_stored": int(row.get("critic_tokens_stored", 0)),
        "untaught_rollouts": int(row.get("untaught_rollouts", 0)),
        "seconds": dict(seconds),
    }


def _ledger_row(group: Sequence[Run]) -> LedgerRow:
    entries = [_ledger_entry(run) for run in group]

    def mean(name: str) -> int:
        return round(fmean(cast("dict[str, float]", entry)[name] for entry in entries))

    return {
        "condition": group[0].condition,
        "seeds": [run.seed for run in group],
        "mean": {
            "updates": mean("updates"),
            "problems": mean("problems"),
            "completions": mean("completions"),
            "tokens_generated": mean("tokens_generated"),
            "tokens_trained": mean("tokens_trained"),
            "teacher_tokens": mean("teacher_tokens"),
            "critic_tokens": mean("critic_tokens"),
            "critic_tokens_stored": mean("critic_tokens_stored"),
            "untaught_rollouts": mean("untaught_rollouts"),
            "seconds": {
                stage: fmean(entry["seconds"].get(stage, 0.0) for entry in entries)
                for stage in entries[0]["seconds"]
            },
        },
        "completions_selected": fmean(map(_completions_selected, group)),
    }


def _completions_selected(run: Run) -> float:
    """Completions drawn up to the selected checkpoint; each update draws equally many.

    Where each half of the problems has its own checkpoint this is the mean over both halves.
    """
    ledger = _ledger_entry(run)
    return ledger["completions"] * fmean(run.chosen) / max(1, ledger["updates"])


def _provenance(runs: Sequence[Run]) -> Provenance:
    first = runs[0]
    hardware = [cast("dict[str, object]", run.manifest.get("hardware") or {}) for run in runs]
    data = [cast("dict[str, object]", run.manifest.get("data") or {}) for run in runs]
    trained = [row for run, row in zip(runs, data, strict=True) if run.trained]
    return {
        "suite": cast("dict[str, object]", first.suite),
        "differing": _differing_keys(runs),
        "started": _distinct(run.manifest.get("started") for run in runs),
        "git": _distinct(run.manifest.get("git") for run in runs),
        "versions": _versions(runs),
        "hardware": _distinct(", ".join(f"{k}: {v}" for k, v in row.items()) for row in hardware),
        "model": ", ".join(_distinct(map(_model, runs))),
        "data": {
            "train": ", ".join(_distinct(row.get("sha256") for row in trained)),
            "test": str(first.test.results.get("problems_sha256") or ""),
        },
        "sampling": _distinct(_sampling(run.test) for run in runs),
        "verifiers": _distinct(name for run in runs for name in _verifiers(run.test)),
        "commands": _distinct(run.manifest.get("command") for run in runs),
    }


def _versions(runs: Sequence[Run]) -> dict[str, str]:
    found: dict[str, list[object]] = {}
    for run in runs:
        for package, version in cast(Row, run.manifest.get("versions") or {}).items():
            found.setdefault(package, []).append(version)
    return {package: ", ".join(_distinct(versions)) for package, versions in found.items()}


def _sampling(evaluation: Evaluation) -> str:
    settings = cast(Row, evaluation.results.get("settings") or {})
    return (
        f"{evaluation.k} samples a problem, temperature {settings.get('temperature')}, at most "
        f"{settings.get('max_tokens')} tokens, seed {settings.get('seed')}, engine "
        f"{settings.get('engine')}"
    )


def _verifiers(evaluation: Evaluation) -> list[str]:
    found = evaluation.results.get("verifiers") or evaluation.results.get("verifier") or []
    return [found] if isinstance(found, str) else cast("list[str]", found)


def _model(run: Run) -> str:
    model = cast("dict[str, object]", run.manifest.get("model") or {})
    return str(model.get("sha256") or "")


def _distinct(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _of_suite(run: Run) -> bool:
    """Whether a suite made it, and not `sdbench eval MODEL`."""
    return run.trained or run.condition == BASE


def _differing_keys(runs: Sequence[Run]) -> list[str]:
    """Settings in which the suites of the runs differ.

    A model that was not trained here has no suite but its own name, and what its samples were drawn
    with; that these agree was checked. An arm that one suite has and another has not is no difference:
    arms are what is compared.
    """
    of_suites = [run.suite for run in runs if _of_suite(run)]
    keys = {key for suite in of_suites for key in _differing(of_suites[0], suite)}
    return sorted(key for key in keys if not (key.startswith("condition.") and key.count(".") == 1))


def _differing(first: JsonValue, second: JsonValue, key: str = "") -> list[str]:
    """Dotted keys of settings in which two suites differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            found
            for name in sorted({*first, *second})
            for found in _differing(
                first.get(name), second.get(name), f"{key}.{name}" if key else name
            )
        ]
    return [] if first == second else [key]
