"""What `sdbench eval` does: paths and options to evaluations, and what is printed of them.

A path is a run folder, a checkpoint of a run, a folder with a model or an adapter, or a hub id. All
paths of a command share one engine and one grader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from sdbench import assembly, problems
from sdbench.config import (
    DEFAULT_SUITE,
    PluginConfig,
    Suite,
    apply_override,
    load_suite,
    validate,
)
from sdbench.engines.base import Progress
from sdbench.errors import ConfigError
from sdbench.evaluate.evaluation import (
    Plan,
    Wish,
    checkpoint_plan,
    describe_untrained,
    evaluate,
    evaluate_run,
    other_task,
    read_results,
    samples_wanted,
    score_name,
)
from sdbench.evaluate.regrade import Regraded, regrade, scorings
from sdbench.evaluate.sample import Engines
from sdbench.evaluate.score import metric_of
from sdbench.grading import Grader
from sdbench.models import ORGANISM
from sdbench.rundir import Row, RunDir, critique_store_of
from sdbench.suite import analyse_run

RUNS = Path("runs")
MODELS = RUNS / "models"
SHOWN_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of the command.

    Attributes:
        suite: Where settings come from that nothing else gives; None for the suite `tiny`.
        overrides: Of the suite.
        tasks: Instead of the suite's task; with a run folder, besides it.
        split: Of a single model.
        k: Samples a problem; None for the suite's.
        limit: Takes the first so many problems.
        engine: Name of an engine or `auto`; None for the suite's.
        engine_options: `key=value`, over the suite's if it is the suite's engine.
        temperature: Of the draws; None for the suite's or the task's.
        max_tokens: Token cap; None likewise.
        seed: Of the draws; None for the suite's.
        out: Where results go; None for the run, or below `runs/models`.
    """

    suite: str | None = None
    overrides: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    split: str = "test"
    k: int | None = None
    limit: int | None = None
    engine: str | None = None
    engine_options: tuple[str, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one path gave: as JSON, and for people."""

    row: Row
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """The evaluation of one path.

    Attributes:
        samples: At most so many are drawn or found.
        run: Does it.
    """

    samples: int
    run: Callable[[Grader, Engines, Progress], Outcome]


def prepare(path: str, choice: Choice) -> Job:
    """Checks a path and its options before anything is sampled.

    Raises:
        ConfigError: an option that does not go with this path, an unknown task, split or engine.
        CheckpointError: there is no such model.
        DataError: a run folder without a checkpoint.
    """
    if Path(path, "manifest.json").is_file() and "label" not in RunDir(Path(path)).read_manifest():
        return _run_job(Path(path), choice)
    return _model_job(path, choice)


def _run_job(root: Path, choice: Choice) -> Job:
    given = {
        "--out": choice.out is not None,
        "--set": bool(choice.overrides),
        "--suite": choice.suite is not None,
        "--split": choice.split != "test",
        "--temperature": choice.temperature is not None,
        "--max-tokens": choice.max_tokens is not None,
        "--seed": choice.seed is not None,
    }
    refused = [name for name, value in given.items() if value]
    if refused:
        raise ConfigError(
            f"a run folder is evaluated by its own suite, into itself; found "
            f"{', '.join(refused)}; allowed with it: --k, --tasks, --limit, --engine",
            hint="give one of its checkpoints/ to use other options",
        )
    run = RunDir(root)
    manifest = run.read_manifest()
    suite = validate(Suite, manifest["suite"], str(run.manifest))
    suite = _with_engine(suite, choice, None, suite.model)
    others = tuple(task for task in choice.tasks if task != suite.task)
    for task in others:
        problems.describe(task)
    wish = Wish(choice.k, choice.limit, others)
    samples = samples_wanted(suite, len(run.saved_checkpoints()), wish)
    return Job(samples, partial(_evaluate_run, run, suite, str(manifest["condition"]), wish))


def _evaluate_run(
    run: RunDir,
    suite: Suite,
    condition: str,
    wish: Wish,
    grader: Grader,
    engines: Engines,
    progress: Progress,
) -> Outcome:
    chosen = evaluate_run(run, suite, grader, engines, progress, wish)
    analyse_run(suite, condition, run, grader, critique_store_of(run.root, RUNS))
    name = score_name(wish.k or suite.evaluation.k, wish.limit)
    rows = {label: read_results(run, label, suite.task, "test", name) for label in chosen.tested}
    lines: list[str] = []
    for label, row in rows.items():
        if row is not None:
            which = "selected" if label == chosen.selected else "last"
            lines += metric_lines(f"{suite.task}, test, update {label} ({which})", row)
    others: Row = {}
    for task in wish.tasks:
        drawn = wish.k or suite.evaluation.k
        row = read_results(run, chosen.last, task, "test", score_name(drawn, wish.limit))
        if row is not None:
            others[task] = row
            lines += metric_lines(f"{task}, test, update {chosen.last} (last)", row)
    result: Row = {
        "run": str(run.root),
        "selection": chosen.as_row(),
        "test": cast(Row, rows),
        **({"tasks": others} if others else {}),
    }
    return Outcome(result, "\n".join([*lines, f"next: sdbench report {run.root}"]))


def _model_job(path: str, choice: Choice) -> Job:
    plans = list(plans_of(path, choice))
    sizes = [len(plan.load()) for plan in plans]
    samples = sum(size * plan.k for size, plan in zip(sizes, plans, strict=True))
    return Job(samples, partial(_evaluate_model, plans))


def _evaluate_model(
    plans: Sequence[Plan], grader: Grader, engines: Engines, progress: Progress
) -> Outcome:
    rows, lines = [], []
    for plan in plans:
        _describe(plan, [plan.task for plan in plans])
        row = evaluate(plan, grader, engines, progress)
        rows.append(row)
        title = f"{plan.label}: {plan.task}, {plan.split}, {row['problems']} problems"
        lines += [*metric_lines(title, row), f"results: {plan.scored}"]
    whole = rows[0] if len(rows) == 1 else cast(Row, {"tasks": rows})
    return Outcome(whole, "\n".join(lines))


def plans_of(path: str, choice: Choice) -> Iterator[Plan]:
    """One evaluation for each task.

    Raises:
        ConfigError: an unknown task, split or engine.
        CheckpointError: there is no such model.
    """
    run = RunDir(Path(path).resolve().parent.parent)
    of_run = Path(path).is_dir() and run.manifest.is_file() and not choice.overrides
    if of_run and choice.suite is None:
        suite = validate(Suite, run.read_manifest()["suite"], str(run.manifest))
        root, label = choice.out or run.root, Path(path).resolve().name
    else:
        suite = load_suite(choice.suite or DEFAULT_SUITE, choice.overrides)
        label = Path(path).name or path
        root = choice.out or MODELS / path.strip("./").replace("/", "--")
    # A suite's engine was chosen for its own model.
    fallback = None if of_run or path == suite.model else "auto"
    suite = _with_engine(suite, choice, fallback, path)
    plan = checkpoint_plan(suite, root, label, path, choice.split, choice.k)
    if not (of_run or choice.suite or choice.overrides):
        plan = replace(plan, style="plain", thinking=None)
    for task in choice.tasks or (suite.task,):
        one = plan if task == suite.task else other_task(plan, task)
        allowed = problems.SPLITS if one.split_path else problems.splits(one.task)
        if choice.split not in allowed:
            raise ConfigError(
                f"task {task} has no split {choice.split!r}; allowed: {', '.join(allowed)}"
            )
        yield _drawn_as(one, choice).limited(choice.limit)


def _drawn_as(plan: Plan, choice: Choice) -> Plan:
    return replace(
        plan,
        temperature=plan.temperature if choice.temperature is None else choice.temperature,
        max_tokens=choice.max_tokens or plan.max_tokens,
        seed=plan.seed if choice.seed is None else choice.seed,
    )


def _with_engine(suite: Suite, choice: Choice, fallback: str | None, model: str) -> Suite:
    """The suite with the engine that was asked for, else the fallback, else its own."""
    asked = choice.engine or fallback or suite.engine.name
    name = assembly.engine_name(asked, model, suite.dtype)
    options: Row = {}
    if name == suite.engine.name:
        options |= cast(Row, suite.engine.options)
    for option in choice.engine_options:
        apply_override(options, option, "--engine-option")
    engine = PluginConfig(name=name, options=cast("dict[str, object]", options))
    assembly.check_engine(engine)
    return suite.model_copy(update={"engine": engine})


def _describe(plan: Plan, tasks: Sequence[str]) -> None:
    """Makes the folder of a model that was not trained here one that reports can read."""
    manifest = RunDir(plan.root).manifest
    if manifest.is_file():
        return
    settings = {"k": plan.k, "temperature": plan.temperature, "max_tokens": plan.max_tokens}
    suite: Row = {
        "name": plan.label,
        "title": f"{plan.label} on {', '.join(tasks)}",
        "model": plan.source.model,
        "task": plan.task,
        "prompts": plan.style,
        "thinking": {"evaluation": plan.thinking},
        "engine": plan.source.engine.model_dump(mode="json"),
        "evaluation": {**settings, "seed": plan.seed},
    }
    model = plan.source.model
    # Two models on the hub may share their last name.
    name = plan.label if Path(model).exists() or model == ORGANISM else model
    describe_untrained(plan.root, name, plan.label, model, suite, {"task": plan.task})


def metric_lines(title: str, results: Row) -> list[str]:
    """A title and one line for each metric, with its interval over problems."""
    lines = [title]
    for name in cast(Row, results["metrics"]):
        metric = metric_of(results, name)
        scale, unit, top = (1.0, " tokens", None) if name == "length" else (100.0, " %", 100.0)
        span = ""
        if metric.low is not None and metric.high is not None:
            low, high = max(0.0, metric.low * scale), metric.high * scale
            span = f"  [{low:.1f}, {high if top is None else min(top, high):.1f}]"
        lines.append(f"  {name:<20}{metric.value * scale:6.1f}{unit}{span}")
    return lines


def regrade_all(paths: Sequence[Path], grader: Grader) -> Outcome:
    """Scores everything that was sampled below some folders again.

    Raises:
        DataError: a folder holds no evaluation, or its samples are incomplete.
    """
    found = [regrade(folder, grader) for path in paths for folder in scorings(path)]
    rows = [
        {
            "folder": str(one.folder),
            "samples": one.samples,
            "avg_before": one.before,
            "avg_after": one.after,
            "verifiers_before": list(one.verifiers_before),
            "verifiers_after": list(one.verifiers_after),
            "counts": one.counts,
            "changes": [
                {
                    "id": change.id,
                    "before": change.before,
                    "after": change.after,
                    "answer": change.answer,
                    "gold": change.gold,
                }
                for change in one.changes
            ],
        }
        for one in found
    ]
    text = "\n".join(line for one in found for line in _regraded_lines(one))
    return Outcome(cast(Row, {"regraded": rows}), text)


def _regraded_lines(one: Regraded) -> Iterator[str]:
    yield f"{one.folder}: {one.samples} samples, {len(one.changes)} verdicts changed"
    if one.verifiers_before != one.verifiers_after:
        yield f"  verifiers: {', '.join(one.verifiers_before)} -> {', '.join(one.verifiers_after)}"
    if not one.changes:
        return
    yield f"  Avg@k: {one.before:.2%} -> {one.after:.2%}"
    counts: Mapping[str, int] = one.counts
    yield from (f"  {kind}: {count}" for kind, count in counts.items())
    for change in one.changes[:SHOWN_CHANGES]:
        yield f"  {change.id}: {change.answer!r} for {change.gold!r}: {change.before} -> {change.after}"
    if len(one.changes) > SHOWN_CHANGES:
        yield f"  and {len(one.changes) - SHOWN_CHANGES} more; --json lists them all"
