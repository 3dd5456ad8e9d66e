"""Run folders read for a comparison: what training and evaluation left there, as frozen records.

In: run folders. Out: one `Run` each, with the selected and the last checkpoint's results on test.
Runs that cannot be compared are refused here, with one line that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import cast

from sdbench.errors import DataError
from sdbench.report.schema import Estimate
from sdbench.rundir import Row, RunDir, read_json, read_rows

BASE = "base"
UNTRAINED = "000000"
STATUSES = ("truncated", "unparsable", "timeout")
SAMPLING = ("temperature", "max_tokens")

ByProblem = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One `results.json` and the samples beside it.

    Attributes:
        folder: Where it lies.
        results: Its contents.
    """

    folder: Path
    results: Row

    @property
    def k(self) -> int:
        """Samples a problem."""
        return cast(int, self.results["k"])

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metrics by name."""
        return cast("dict[str, Estimate]", self.results["metrics"])

    @cached_property
    def by_problem(self) -> dict[str, ByProblem]:
        """For each metric by name, its value on every problem."""
        rows = cast("dict[str, dict[str, float]]", self.results["per_problem"])
        kept = {name for name in self.metrics if name.endswith(f"@{self.k}")}
        found = {
            name: {problem: row[name.partition("@")[0]] for problem, row in rows.items()}
            for name in kept
        }
        return {**found, **_by_sample(self.folder)}

    def values(self, metric: str) -> ByProblem:
        """A metric's value on every problem.

        Raises:
            DataError: the samples it is computed from are missing.
        """
        if metric not in self.by_problem:
            raise DataError(
                f"{self.folder} lacks what {metric} is computed from: samples.jsonl, verdicts.jsonl",
                hint="run `sdbench eval` on the run again",
            )
        return self.by_problem[metric]


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        root: The folder.
        condition: Its condition, `base` for the untrained model.
        seed: Of the training.
        manifest: Its manifest.
        selected: Label of the checkpoint that validation selected.
        last: Label of the last checkpoint.
        test: Results of the selected checkpoint on test.
        test_last: Results of the last checkpoint on test.
        validation: Results on validation by checkpoint, as far as they are there.
        scores: The metric that validation selected by, of every checkpoint.
        metric: That metric's name.
        advantage: Per-token advantages, if the condition has a teacher.
    """

    root: Path
    condition: str
    seed: int
    manifest: Row
    selected: str
    last: str
    test: Evaluation
    test_last: Evaluation
    validation: Mapping[str, Evaluation]
    scores: Mapping[str, Estimate]
    metric: str
    advantage: Row | None

    @property
    def name(self) -> str:
        """For messages and tables."""
        return f"{self.condition} seed {self.seed}"

    @property
    def suite(self) -> Row:
        """The suite as resolved."""
        return cast(Row, self.manifest.get("suite") or {})

    @property
    def task(self) -> str:
        """Name of the task."""
        return cast(str, self.test.results["task"])


def read_all(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders and checks that they can be compared.

    Returns:
        The runs by condition and seed, the untrained model last.

    Raises:
        DataError: no folder, a folder that is missing, is no run or has no evaluation, or runs of
            different tasks, problems, k, temperatures or token caps.
    """
    if not folders:
        raise DataError(
            "no runs to compare", hint="give run folders, such as runs/tiny/critique/seed0"
        )
    runs = [read(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    runs.sort(key=lambda run: (run.condition == BASE, run.condition, run.seed))
    _check_distinct(runs)
    for run in runs:
        for evaluation in (run.test, run.test_last):
            _check_same(runs[0].test, evaluation)
    return runs


def read(folder: Path) -> Run:
    """Reads one run folder.

    Raises:
        DataError: it is missing, is no run, or has no evaluation yet.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; allowed: run folders")
    run = RunDir(folder)
    manifest = run.read_manifest()
    try:
        condition, seed = str(manifest["condition"]), cast(int, manifest["seed"])
        task = str(cast(Row, manifest["data"])["task"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{run.manifest} is no manifest of a run: {error} is missing") from error
    chosen = _selection(run, condition)
    checkpoints = cast("dict[str, str]", {name: chosen[name] for name in ("selected", "last")})
    return Run(
        root=folder,
        condition=condition,
        seed=seed,
        manifest=manifest,
        **checkpoints,
        test=_test(run, checkpoints["selected"], task),
        test_last=_test(run, checkpoints["last"], task),
        validation=_validations(run, task),
        scores=cast("dict[str, Estimate]", chosen["scores"]),
        metric=str(chosen["metric"]),
        advantage=read_json(run.advantages) if run.advantages.is_file() else None,
    )


def _selection(run: RunDir, condition: str) -> Row:
    if run.selection.is_file():
        return read_json(run.selection)
    if condition == BASE:
        return {"selected": UNTRAINED, "last": UNTRAINED, "scores": {}, "metric": ""}
    raise _not_evaluated(run)


def _not_evaluated(run: RunDir) -> DataError:
    return DataError(
        f"{run.root} has no evaluation on test yet", hint=f"run `sdbench eval {run.root}`"
    )


def _test(run: RunDir, label: str, task: str) -> Evaluation:
    found = _evaluation(run.root / "eval" / label / f"{task}-test")
    if found is None:
        raise _not_evaluated(run)
    return found


def _validations(run: RunDir, task: str) -> dict[str, Evaluation]:
    folders = sorted((run.root / "eval").glob(f"[0-9]*/{task}-validation"))
    found = {folder.parent.name: _evaluation(folder) for folder in folders}
    return {label: evaluation for label, evaluation in found.items() if evaluation is not None}


def _evaluation(folder: Path) -> Evaluation | None:
    """The newest one, should there be several under different settings."""
    found = sorted(folder.glob("*/results.json"), key=lambda path: (path.stat().st_mtime, path))
    return Evaluation(found[-1].parent, read_json(found[-1])) if found else None


def _by_sample(folder: Path) -> dict[str, ByProblem]:
    """Length and shares by status on every problem, from samples and verdicts joined by id."""
    statuses = {cast(str, v["id"]): v["status"] for v in read_rows(folder / "verdicts.jsonl")}
    lengths: dict[str, list[float]] = {}
    counted: dict[str, dict[str, list[float]]] = {status: {} for status in STATUSES}
    for sample in read_rows(folder / "samples.jsonl"):
        status = statuses.get(cast(str, sample["id"]))
        if status is None:
            continue
        problem = cast(str, sample["problem_id"])
        lengths.setdefault(problem, []).append(cast(float, sample["completion_tokens"]))
        for name, by_problem in counted.items():
            by_problem.setdefault(problem, []).append(float(status == name))
    if not lengths:
        return {}
    all_values = {"length": lengths, **counted}
    return {name: {p: fmean(v) for p, v in by.items()} for name, by in all_values.items()}


def _check_distinct(runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        if run.name in seen:
            raise DataError(
                f"{seen[run.name].root} and {run.root} both hold {run.name}; allowed: each once"
            )
        seen[run.name] = run


def _check_same(first: Evaluation, other: Evaluation) -> None:
    expected = _terms(first)
    for name, found in _terms(other).items():
        if found != expected[name]:
            raise DataError(
                f"{other.folder} was made with {name} = {found}, {first.folder} with "
                f"{expected[name]}; allowed: one {name} in a comparison"
            )
    if _problems(other) != _problems(first):
        raise DataError(
            f"{other.folder} and {first.folder} hold different problem sets",
            hint="compare runs of one suite, or run `sdbench eval` on them again",
        )


def _terms(evaluation: Evaluation) -> Row:
    """What must be the same for scores to be comparable, besides the problems."""
    settings = cast(Row, evaluation.results.get("settings") or {})
    return {
        "task": evaluation.results["task"],
        "k": evaluation.k,
        **{name: settings.get(name) for name in SAMPLING},
    }


def _problems(evaluation: Evaluation) -> tuple[object, frozenset[str]]:
    rows = cast("dict[str, object]", evaluation.results["per_problem"])
    return evaluation.results.get("problems_sha256"), frozenset(rows)
