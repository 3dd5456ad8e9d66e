"""One evaluation: sample, grade, score, write; and the evaluation of a whole run.

A run is evaluated without looking at the test set before choosing: every checkpoint on validation,
then the selected and the last one on test.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sdbench import models, problems
from sdbench.config import Suite
from sdbench.engines.base import Progress
from sdbench.errors import DataError
from sdbench.evaluate import score
from sdbench.evaluate.sample import Settings, Source, sample
from sdbench.evaluate.select import Selection, select
from sdbench.grading import Answer, Grader
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
        suffix: Sets the results of a trial on fewer problems apart from those of the whole split.
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
    suffix: str = ""

    @property
    def settings(self) -> Settings:
        """What decides the samples."""
        model = models.fingerprint(models.source_of(self.source.model))
        return Settings(
            model, self.source.engine.name, self.temperature, self.max_tokens, self.seed
        )

    @property
    def folder(self) -> Path:
        """Where samples, verdicts and results lie."""
        return RunDir(self.root).evaluation(self.label, self.task, self.split, self.settings.key)


def evaluate(plan: Plan, grader: Grader, progress: Progress) -> Row:
    """Makes or completes one evaluation.

    Returns:
        The contents of `results.json`.

    Raises:
        ConfigError: unknown task or split, or k less than 1.
        CheckpointError: the model cannot be loaded.
        EngineError: a prompt does not fit.
    """
    problem_set = problems.load(plan.task, plan.split, plan.problems)
    samples = sample(plan.folder, problem_set, plan.k, plan.settings, plan.source.open, progress)
    verdicts = _grade(problem_set, samples, grader)
    write_rows(plan.folder / f"verdicts{plan.suffix}.jsonl", map(to_row, verdicts))
    results: Row = {
        "checkpoint": plan.label,
        "task": plan.task,
        "split": plan.split,
        "k": plan.k,
        "settings": asdict(plan.settings),
        "problems_sha256": problems.fingerprint(problem_set),
        "verifiers": [*sorted({verdict.verifier for verdict in verdicts})],
        **score.score(score.join(problem_set, samples, verdicts), plan.k),
    }
    write_json(plan.folder / f"results{plan.suffix}.json", results)
    return results


def _grade(
    problem_set: Sequence[Problem], samples: Sequence[Sample], grader: Grader
) -> list[Verdict]:
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
    )


def evaluate_run(
    run: RunDir, suite: Suite, grader: Grader, progress: Progress, k: int | None = None
) -> Selection:
    """Every checkpoint on validation, then the selected and the last one on test.

    Args:
        run: A run folder with at least one checkpoint.
        suite: The suite it was made with.
        grader: An open grader.
        progress: Called with the number of samples newly there.
        k: Samples a test problem; None for the suite's.

    Returns:
        Which checkpoint was selected, and why.

    Raises:
        DataError: the run has no checkpoint yet.
    """
    saved = run.saved_checkpoints()
    if not saved:
        raise DataError(f"{run.root} has no checkpoint yet", hint="run `sdbench train` to its end")
    sources = {UNTRAINED: suite.model, **{path.name: str(path) for path in saved}}
    validation = {}
    for label, source in sources.items():
        plan = checkpoint_plan(suite, run.root, label, source, "validation")
        _adopt(plan, run)
        validation[label] = evaluate(plan, grader, progress)
    chosen = select(validation, f"avg@{suite.evaluation.validation_k}")
    write_json(run.selection, chosen.as_row())
    for label in dict.fromkeys((chosen.selected, chosen.last)):
        plan = checkpoint_plan(suite, run.root, label, sources[label], "test", k)
        _adopt(plan, run)
        evaluate(plan, grader, progress)
    return chosen


def _adopt(plan: Plan, run: RunDir) -> None:
    """Copies the untrained model's samples from the suite's base run, if it has these very ones."""
    base = run.root.parent.parent / "base" / "seed0"
    held = RunDir(base).evaluation(UNTRAINED, plan.task, plan.split, plan.settings.key)
    if plan.label == UNTRAINED and held.is_dir() and not plan.folder.exists():
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(held, plan.folder)


def samples_wanted(suite: Suite, checkpoints: int, k: int | None = None) -> int:
    """At most so many samples `evaluate_run` draws or finds."""
    validation = (checkpoints + 1) * suite.data.validation_problems * suite.evaluation.validation_k
    return validation + 2 * suite.data.test_problems * (k or suite.evaluation.k)


def read_results(run: RunDir, label: str, task: str, split: str) -> Row | None:
    """The newest results of a checkpoint on a split; None if there are none."""
    folder = run.root / "eval" / label / f"{task}-{split}"
    found = sorted(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    return read_json(found[-1]) if found else None
