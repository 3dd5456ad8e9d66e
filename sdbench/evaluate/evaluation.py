"""One evaluation: sample, grade, score, write; and the evaluation of a whole run.

A run is evaluated without looking at a test score before choosing: every checkpoint on validation,
then the selected and the last one on test; or, by cross-fitting, every checkpoint on test, each
problem scored by the checkpoint that the other half of the problems chose.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sdbench import models, problems, provenance
from sdbench.config import Suite
from sdbench.engines.base import Progress
from sdbench.errors import DataError
from sdbench.evaluate import lm_eval_layout, score
from sdbench.evaluate.sample import Engines, Settings, Source, sample
from sdbench.evaluate.select import CROSS_FIT, Selection, cross_fit, select
from sdbench.grading import Answer, Grader
from sdbench.prompts import Style
from sdbench.records import Problem, Sample, Verdict
from sdbench.rundir import Row, RunDir, read_json, to_row, write_json, write_rows

UNTRAINED = "000000"


@dataclass(frozen=True, slots=True)
class Plan:
    """One evaluation to make.

    Attributes:
        root: The folder whose `eval/` gets the result.
        label: The checkpoint's name there.
        source: The model and engine.
        task: The task definition.
        split: `validation` or `test`.
        problems: How many, from the first; None for all.
        k: Samples a problem.
        temperature: Of the draws.
        max_tokens: Token cap.
        seed: Of the draws.
        style: Of the solver's prompt.
        thinking: Whether the solver may think first; None leaves it to the chat template.
        trial: Whether `problems` is a limit for a trial and not the suite's own number.
        split_path: A split file; None for the task's own splits.
    """

    root: Path
    label: str
    source: Source
    task: str
    split: str
    problems: int | None
    k: int
    temperature: float
    max_tokens: int
    seed: int
    style: Style = "plain"
    thinking: bool | None = None
    trial: bool = False
    split_path: str | None = None

    @property
    def settings(self) -> Settings:
        """What decides the samples."""
        source = models.source_of(self.source.model)
        return Settings(
            model=models.fingerprint(source),
            engine=self.source.engine.name,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            template=models.template_fingerprint(source),
            style=self.style,
            thinking=self.thinking,
        )

    @property
    def folder(self) -> Path:
        """Where the samples lie, those of every k."""
        return RunDir(self.root).evaluation(self.label, self.task, self.split, self.settings.key)

    @property
    def scored(self) -> Path:
        """Where verdicts and results lie, for this k and this number of problems."""
        return self.folder / score_name(self.k, self.problems if self.trial else None)

    def load(self) -> list[Problem]:
        """The problems to sample; see `problems.select`."""
        return problems.select(self.task, self.split, self.problems, self.split_path)

    def limited(self, problems: int | None) -> Plan:
        """The same on the first so many problems; None changes nothing."""
        return self if problems is None else replace(self, problems=problems, trial=True)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of the evaluation of a run beyond its suite.

    Attributes:
        k: Samples a test problem; None for the suite's.
        limit: Takes the first so many test problems.
        tasks: Other tasks to evaluate the selected and the last checkpoint on.
    """

    k: int | None = None
    limit: int | None = None
    tasks: tuple[str, ...] = ()


def score_name(k: int, limit: int | None = None) -> str:
    """Name of the folder of one scoring: `k12`, or `k12-first30` for a trial on 30 problems."""
    return f"k{k}" if limit is None else f"k{k}-first{limit}"


def evaluate(plan: Plan, grader: Grader, engines: Engines, progress: Progress) -> Row:
    """Makes or completes one evaluation.

    Returns:
        The contents of `results.json`.

    Raises:
        ConfigError: unknown task or split, or k less than 1.
        CheckpointError: the model cannot be loaded.
        DataError: the split is empty or too small, or another process evaluates the same.
        EngineError: a prompt does not fit.
    """
    problem_set = plan.load()
    samples = sample(
        plan.folder,
        problem_set,
        plan.k,
        plan.settings,
        lambda: engines.open(plan.source),
        progress,
    )
    about: Row = {
        "checkpoint": plan.label,
        "model": plan.source.model,
        "task": plan.task,
        "split": plan.split,
        "k": plan.k,
        "problems": len(problem_set),
        "settings": plan.settings.as_row(),
        "problems_sha256": problems.fingerprint(problem_set),
        **({} if plan.split_path is None else {"split_file": plan.split_path}),
    }
    return score_and_write(plan.scored, about, problem_set, samples, grader)


def score_and_write(
    folder: Path,
    about: Row,
    problem_set: Sequence[Problem],
    samples: Sequence[Sample],
    grader: Grader,
) -> Row:
    """Grades and scores samples and writes verdicts and results, ours and in lm-eval's layout.

    Args:
        folder: Where they go.
        about: What `results.json` says besides the scores.
        problem_set: The problems.
        samples: All k samples of each.
        grader: An open grader.

    Returns:
        The contents of `results.json`.
    """
    verdicts = grade(problem_set, samples, grader)
    scored = score.join(problem_set, samples, verdicts)
    results: Row = {
        **about,
        "verifiers": [*sorted({verdict.verifier for verdict in verdicts})],
        **score.score(scored, cast(int, about["k"])),
    }
    write_rows(folder / "verdicts.jsonl", map(to_row, verdicts))
    lm_eval_layout.write(folder, results, scored)
    write_json(folder / "results.json", results)
    return results


def grade(
    problem_set: Sequence[Problem], samples: Sequence[Sample], grader: Grader
) -> list[Verdict]:
    """A verdict on each sample, in their order."""
    gold = {problem.id: problem.answer for problem in problem_set}
    answers = [Answer(s.id, s.text, gold[s.problem_id], s.finish_reason) for s in samples]
    return grader.grade(answers)


def checkpoint_plan(
    suite: Suite, root: Path, label: str, model: str, split: str, k: int | None = None
) -> Plan:
    """The evaluation that a suite asks for on a split."""
    on_test = split == "test"
    return Plan(
        root=root,
        label=label,
        source=Source(model, suite.dtype, suite.engine),
        task=suite.task,
        split=split,
        problems=suite.data.test_problems if on_test else suite.data.validation_problems,
        k=k or (suite.evaluation.k if on_test else suite.evaluation.validation_k),
        temperature=suite.evaluation.temperature,
        max_tokens=suite.evaluation.max_tokens,
        seed=suite.evaluation.seed,
        style=suite.prompts,
        thinking=suite.thinking.evaluation,
        split_path=suite.data.split,
    )


def other_task(plan: Plan, task: str) -> Plan:
    """The same model on another task, all its problems, sampled as its definition says."""
    drawn = problems.generation(task)
    return replace(
        plan,
        task=task,
        problems=None,
        temperature=drawn.temperature,
        max_tokens=drawn.max_tokens,
        split_path=None,
    )


def evaluate_run(
    run: RunDir,
    suite: Suite,
    grader: Grader,
    engines: Engines,
    progress: Progress,
    wish: Wish = Wish(),
) -> Selection:
    """Chooses a checkpoint as the suite says, then evaluates it and the last one on test.

    Args:
        run: A run folder with at least one checkpoint.
        suite: The suite it was made with.
        grader: An open grader.
        engines: Serves all checkpoints.
        progress: Called with the number of samples newly there.
        wish: What is asked beyond the suite.

    Returns:
        Which checkpoint was selected, and why.

    Raises:
        DataError: the run has no checkpoint yet.
    """
    saved = run.saved_checkpoints()
    if not saved:
        raise DataError(f"{run.root} has no checkpoint yet", hint="run `sdbench train` to its end")
    sources = {UNTRAINED: suite.model, **{path.name: str(path) for path in saved}}

    def on(split: str, label: str) -> Row:
        plan = checkpoint_plan(suite, run.root, label, sources[label], split)
        if split == "test":
            plan = replace(plan, k=wish.k or plan.k).limited(wish.limit)
        _adopt(plan, run)
        return evaluate(plan, grader, engines, progress)

    if suite.evaluation.selection == CROSS_FIT:
        tested = {label: on("test", label) for label in sources}
        chosen, rows = cross_fit(tested, f"avg@{wish.k or suite.evaluation.k}")
        _write_fitted(run, chosen, tested[chosen.last], rows, wish)
        write_json(run.selection, chosen.as_row())
    else:
        validated = {label: on("validation", label) for label in sources}
        chosen = select(validated, f"avg@{suite.evaluation.validation_k}")
        write_json(run.selection, chosen.as_row())
        for label in chosen.tested:
            on("test", label)
    for task in wish.tasks:
        for label in dict.fromkeys((*(chosen.halves or (chosen.selected,)), chosen.last)):
            plan = checkpoint_plan(suite, run.root, label, sources[label], "test", wish.k)
            plan = other_task(plan, task).limited(wish.limit)
            evaluate(plan, grader, engines, progress)
    return chosen


def _write_fitted(run: RunDir, chosen: Selection, last: Row, rows: Row, wish: Wish) -> None:
    """The results of the checkpoints that cross-fitting chose, each on its half of the problems."""
    k, task = cast(int, last["k"]), str(last["task"])
    settings = cast(Row, last["settings"]) | {"model": "+".join(chosen.halves)}
    folder = run.evaluation(CROSS_FIT, task, "test", "halves") / score_name(k, wish.limit)
    about = {**last, "checkpoint": CROSS_FIT, "settings": settings}
    write_json(folder / "results.json", {**about, **score.summarise(rows, k)})


def _adopt(plan: Plan, run: RunDir) -> None:
    """Copies the untrained model's samples from the suite's base run, if it has these very ones."""
    base = run.root.parent.parent / "base" / "seed0"
    held = RunDir(base).evaluation(UNTRAINED, plan.task, plan.split, plan.settings.key)
    if plan.label == UNTRAINED and held.is_dir() and not plan.folder.exists():
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(held, plan.folder)


def samples_wanted(suite: Suite, checkpoints: int, wish: Wish = Wish()) -> int:
    """At most so many samples `evaluate_run` draws or finds on the suite's own task."""
    test = (wish.limit or suite.data.test_problems) * (wish.k or suite.evaluation.k)
    if suite.evaluation.selection == CROSS_FIT:
        return (checkpoints + 1) * test
    validation = (checkpoints + 1) * suite.data.validation_problems * suite.evaluation.validation_k
    return validation + 2 * test


def read_results(run: RunDir, label: str, task: str, split: str, name: str) -> Row | None:
    """The newest results of a checkpoint on a split; None if there are none.

    Args:
        run: The run folder.
        label: The checkpoint.
        task: The task.
        split: The split.
        name: Which scoring; see `score_name`.
    """
    folder = run.root / "eval" / label / f"{task}-{split}"
    found = sorted(folder.glob(f"*/{name}/results.json"), key=lambda path: path.stat().st_mtime)
    return read_json(found[-1]) if found else None


def describe_untrained(
    root: Path, condition: str, label: str, model: str, suite: Row, data: Row
) -> None:
    """Writes the manifest of a model that no run here trained, so that reports can compare it.

    Args:
        root: The folder that gets its evaluations.
        condition: What the report calls it.
        label: The checkpoint's name in `eval/`.
        model: Its name, folder or hub id.
        suite: The suite, or the settings that stand for one.
        data: The task, and what else is known of the problems.
    """
    source = models.source_of(model)
    write_json(
        RunDir(root).manifest,
        {
            "suite_name": str(suite.get("name") or ""),
            "suite": suite,
            "condition": condition,
            "label": label,
            "seed": 0,
            "model": {"source": model, "sha256": models.fingerprint(source)},
            "data": data,
            **provenance.describe(),
            "ledger": {},
        },
    )
