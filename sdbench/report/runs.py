"""Run folders read for a comparison: what training and evaluation left there, as frozen records.

In: run folders. Out: one `Run` each, with the selected and the last checkpoint's results on test.
Runs that cannot be compared are refused here, with one line that says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import cast

from sdbench.errors import DataError
from sdbench.report.schema import Estimate
from sdbench.rundir import Row, RunDir, read_json

BASE = "base"
UNTRAINED = "000000"
CROSS_FIT = "cross-fit"
TRIAL = "-first"
SAMPLING = ("temperature", "max_tokens", "style", "prompt", "thinking")

ByProblem = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One `results.json`.

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

    @property
    def trial(self) -> bool:
        """Whether only the first problems were taken, to try something out."""
        return TRIAL in self.folder.name

    def values(self, metric: str) -> ByProblem:
        """A metric's value on every problem.

        Raises:
            DataError: it was not written for each problem.
        """
        name = metric.partition("@")[0]
        return {problem: cast(float, row[name]) for problem, row in self._rows(name)}

    def values_at(self, metric: str, m: int) -> ByProblem:
        """Pass@m or Maj@m on every problem.

        Args:
            metric: `pass` or `maj`.
            m: From 1 to k.

        Raises:
            DataError: it was not written for each problem.
        """
        name = f"{metric}_at"
        rows = self._rows(name)
        return {problem: cast("list[float]", row[name])[m - 1] for problem, row in rows}

    def _rows(self, name: str) -> Iterator[tuple[str, Row]]:
        for problem, row in cast("dict[str, Row]", self.results["per_problem"]).items():
            if name not in row:
                raise DataError(
                    f"{self.folder / 'results.json'} has no {name!r} for problem {problem!r}",
                    hint="an earlier version wrote it; run `sdbench eval` again",
                )
            yield problem, row


@dataclass(frozen=True)
class Run:
    """One run folder, or the folder of a model that was not trained here.

    Attributes:
        root: The folder.
        condition: Its condition; `base` for the suite's untrained model, else the model's name.
        seed: Of the training.
        trained: Whether it holds a training run.
        manifest: Its manifest.
        task: The task whose results are compared.
        selected: Label of the checkpoint that was selected; `cross-fit` where each half of the
            problems has its own.
        halves: By cross-fitting, the checkpoint of each half; else empty.
        last: Label of the last checkpoint.
        test: Results of the selected checkpoint on test.
        test_last: Results of the last checkpoint on test.
        checked: Results of all checkpoints on the split that they were selected on, as far as they
            are there.
        split: That split.
        scores: The metric that was selected by, of every checkpoint.
        metric: That metric's name.
        advantage: Per-token advantages, if the condition has a teacher.
        audit: Of the critiques that it was trained on, if it was and they were audited.
    """

    root: Path
    condition: str
    seed: int
    trained: bool
    manifest: Row
    task: str
    selected: str
    halves: tuple[str, ...]
    last: str
    test: Evaluation
    test_last: Evaluation
    checked: Mapping[str, Evaluation]
    split: str
    scores: Mapping[str, Estimate]
    metric: str
    advantage: Row | None
    audit: Row | None = None

    @property
    def name(self) -> str:
        """For messages and tables."""
        return f"{self.condition} seed {self.seed}"

    @property
    def suite(self) -> Row:
        """The suite as resolved."""
        return cast(Row, self.manifest.get("suite") or {})

    @property
    def chosen(self) -> tuple[int, ...]:
        """Updates of the selected checkpoint, or of each half's; empty if nothing was trained."""
        labels = self.halves or (self.selected,)
        return tuple(map(int, labels)) if self.trained else ()


def mean_over_seeds(by_seed: Sequence[ByProblem]) -> ByProblem:
    """The mean of a score over training seeds, problem by problem."""
    return {problem: fmean(one[problem] for one in by_seed) for problem in sorted(by_seed[0])}


def these_problems_error(by_seed: Sequence[Estimate]) -> float | None:
    """Standard error of a mean over seeds if these very problems were sampled again.

    Seeds are sampled independently, so with errors e of S seeds it is sqrt(sum e^2) / S; None if
    one of them is not known.
    """
    errors = [one["these_problems_standard_error"] for one in by_seed]
    known = [error for error in errors if error is not None]
    return sum(e**2 for e in known) ** 0.5 / len(errors) if len(known) == len(errors) else None


def read_all(folders: Sequence[Path], task: str | None = None) -> list[Run]:
    """Reads run folders and checks that they can be compared.

    Args:
        folders: Run folders, or folders of models that were not trained here.
        task: Whose results; None for the task of each run's manifest.

    Returns:
        The runs by condition and seed, those not trained here last and the suite's own model at the
        very end.

    Raises:
        DataError: no folder, a folder that is missing, is no run or has no evaluation, or runs of
            different tasks, problems, k, temperatures or token caps.
    """
    if not folders:
        raise DataError(
            "no runs to compare", hint="give run folders, such as runs/tiny/critique/seed0"
        )
    distinct = {folder.resolve(): folder for folder in folders}.values()
    runs = [read(folder, task) for folder in distinct]
    runs.sort(key=lambda run: (not run.trained, run.condition == BASE, run.condition, run.seed))
    _check_distinct(runs)
    for run in runs:
        for evaluation in (run.test, run.test_last):
            _check_same(runs[0].test, evaluation)
    return runs


def read(folder: Path, task: str | None = None) -> Run:
    """Reads one run folder.

    Args:
        folder: The folder.
        task: Whose results; None for the task of the manifest.

    Raises:
        DataError: it is missing, is no run, or has no evaluation on this task yet.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; allowed: run folders")
    run = RunDir(folder)
    manifest = run.read_manifest()
    try:
        condition, seed = str(manifest["condition"]), cast(int, manifest["seed"])
        own = str(cast(Row, manifest["data"])["task"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{run.manifest} is no manifest of a run: {error} is missing") from error
    task = task or own
    trained = "label" not in manifest and condition != BASE
    chosen = _selection(run, manifest, trained)
    last = str(chosen["last"])
    selected, halves = _selected(chosen, on_own_task=task == own)
    # Curves and advantages are the own task's; another task's page must not show them as its own.
    scores = cast("dict[str, Estimate]", chosen["scores"]) if task == own else {}
    split = str(chosen.get("split") or "validation")
    held = run.advantages.is_file() and task == own
    return Run(
        root=folder,
        condition=condition,
        seed=seed,
        trained=trained,
        manifest=manifest,
        task=task,
        selected=selected,
        halves=halves,
        last=last,
        test=_test(run, manifest, selected, task),
        test_last=_test(run, manifest, last, task),
        checked=_checked(run, task, split),
        split=split,
        scores=scores,
        metric=str(chosen["metric"]),
        advantage=read_json(run.advantages) if held else None,
        audit=read_json(run.audit) if run.audit.is_file() and task == own else None,
    )


def _selection(run: RunDir, manifest: Row, trained: bool) -> Row:
    if run.selection.is_file():
        return read_json(run.selection)
    if not trained:
        label = str(manifest.get("label") or UNTRAINED)
        return {"selected": label, "last": label, "scores": {}, "metric": ""}
    raise _not_evaluated(run, manifest)


def _selected(chosen: Row, *, on_own_task: bool) -> tuple[str, tuple[str, ...]]:
    """What was selected; halves are of the own task's problems, so another one has the last."""
    selected, halves = str(chosen["selected"]), cast("list[str]", chosen.get("halves") or [])
    if selected == CROSS_FIT and not on_own_task:
        return (halves[0] if len(set(halves)) == 1 else str(chosen["last"])), ()
    return selected, tuple(halves) if selected == CROSS_FIT else ()


def _not_evaluated(run: RunDir, manifest: Row) -> DataError:
    what: object = run.root
    if "label" in manifest:
        what = cast(Row, manifest.get("model") or {}).get("source") or run.root
    return DataError(f"{run.root} has no evaluation on test yet", hint=f"run `sdbench eval {what}`")


def _test(run: RunDir, manifest: Row, label: str, task: str) -> Evaluation:
    found = _evaluation(run.root / "eval" / label / f"{task}-test")
    if found is not None:
        return found
    evaluated = _tasks(run)
    if not evaluated or task in evaluated:
        raise _not_evaluated(run, manifest)
    raise DataError(
        f"{run.root} was not evaluated on task {task!r}; evaluated: {', '.join(evaluated)}"
    )


def _tasks(run: RunDir) -> list[str]:
    """Tasks with results on test."""
    found = (run.root / "eval").glob("*/*-test/*/*/results.json")
    return sorted({path.parents[2].name.removesuffix("-test") for path in found})


def _checked(run: RunDir, task: str, split: str) -> dict[str, Evaluation]:
    folders = sorted((run.root / "eval").glob(f"[0-9]*/{task}-{split}"))
    found = {folder.parent.name: _evaluation(folder) for folder in folders}
    return {label: evaluation for label, evaluation in found.items() if evaluation is not None}


def _evaluation(folder: Path) -> Evaluation | None:
    """The newest one on all problems; the newest trial, should there be nothing else."""
    found = sorted(
        folder.glob("*/*/results.json"),
        key=lambda path: (TRIAL not in path.parent.name, path.stat().st_mtime_ns, path),
    )
    return Evaluation(found[-1].parent, read_json(found[-1])) if found else None


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
