"""The whole matrix of a suite: every condition with every seed, trained, evaluated, analysed.

In: a suite, arms, seeds and a folder. Out: one run folder each, beside the folder of the untrained
model. Cells run in worker processes, side by side; what is done is skipped, what a kill interrupted
continues. The report is made by the caller from the folders.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import cast

from sdbench import problems
from sdbench.analyze.advantage import analyse
from sdbench.conditions.base import resolve
from sdbench.config import Suite
from sdbench.critique_command import audit_run
from sdbench.evaluate.evaluation import (
    UNTRAINED,
    checkpoint_plan,
    describe_untrained,
    evaluate,
    evaluate_run,
    samples_wanted,
)
from sdbench.evaluate.sample import Engines
from sdbench.grading import Grader
from sdbench.rundir import Row, RunDir, critique_store, write_json
from sdbench.train.loop import train
from sdbench.train.processes import open_state
from sdbench.train.warmup import folder_of, warm_up

BASE = "base"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the matrix.

    Attributes:
        condition: The arm, or `base` for the untrained model.
        seed: Of the training; 0 for the untrained model.
        folder: Its run folder.
        store: Where the matrix keeps critiques that cost something; None for nowhere.
    """

    condition: str
    seed: int
    folder: Path
    store: Path | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """News of a cell: so much of its work is done.

    Attributes:
        cell: Which.
        stage: `train` (unit: updates), `evaluate` (unit: samples) or `done`.
        done: Units newly done.
        log: The update's row, empty for other news.
    """

    cell: Cell
    stage: str
    done: int
    log: Row


@dataclass(frozen=True, slots=True)
class Work:
    """How much a cell is.

    Attributes:
        updates: Optimiser updates.
        rollouts: Rollouts over all updates.
        samples: Evaluation samples at most.
    """

    updates: int
    rollouts: int
    samples: int


def cells(suite: Suite, arms: Sequence[str], seeds: Sequence[int], out: Path) -> list[Cell]:
    """The matrix in the order in which it is run: the untrained model first, then long runs first.

    Raises:
        ConfigError: an arm is unknown or misconfigured.
    """
    store = critique_store(out)
    runs = [
        Cell(arm, seed, run_folder(out, suite, arm, seed), store) for arm in arms for seed in seeds
    ]
    runs.sort(key=lambda cell: -work(suite, cell).rollouts)
    return [Cell(BASE, 0, run_folder(out, suite, BASE, 0)), *runs]


def warmed(suite: Suite, out: Path, progress: Callable[[int, float], None]) -> Suite:
    """The suite with its warmed model, which is made if it is not there; without one, itself.

    Args:
        suite: A suite as it was loaded.
        out: Where its runs go.
        progress: Called after each update of the warm-up with its number and loss.
    """
    if suite.warmup is None:
        return suite
    folder = folder_of(suite, out)
    with open_state().main_process_first():
        start = warm_up(suite, folder, progress)
    return suite.model_copy(update={"model": str(start.folder)})


def run_folder(out: Path, suite: Suite, arm: str, seed: int) -> Path:
    """Where a run lies by default: `<out>/<suite>/<condition>/seed<k>`."""
    return out / suite.name / arm / f"seed{seed}"


def work(suite: Suite, cell: Cell) -> Work:
    """How much a cell is, for estimates of the time that remains."""
    evaluation, data = suite.evaluation, suite.data
    if cell.condition == BASE:
        validation = data.validation_problems * evaluation.validation_k
        return Work(0, 0, validation + data.test_problems * evaluation.k)
    config = resolve(suite, cell.condition).config
    per_update = (config.problems_per_update or suite.train.problems_per_update) * config.group_size
    checkpoints = -(-suite.train.updates // suite.train.save_every)
    return Work(
        suite.train.updates, suite.train.updates * per_update, samples_wanted(suite, checkpoints)
    )


def run_matrix(
    suite: Suite, matrix: Sequence[Cell], jobs: int, news: Callable[[Advance], None]
) -> None:
    """Runs every cell that is not done, `jobs` at a time.

    Args:
        suite: The suite.
        matrix: From `cells`; its first cell is run alone, since others copy its samples.
        jobs: Worker processes.
        news: Called in this process as work proceeds.

    Raises:
        SdbenchError: whatever stopped a cell; cells under way are finished first, others left.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = cast("Queue[Advance]", manager.Queue())
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            for part in (matrix[:1], matrix[1:]):
                futures = {pool.submit(run_cell, suite, cell, queue) for cell in part}
                _follow(futures, queue, news)


def default_jobs(suite: Suite) -> int:
    """As many workers as fit on the cores with the threads that the suite gives each."""
    return max(1, (os.cpu_count() or 1) // max(1, suite.train.threads or (os.cpu_count() or 1)))


def _follow(
    futures: set[Future[None]], queue: Queue[Advance], news: Callable[[Advance], None]
) -> None:
    pending = futures
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        _drain(queue, news)
        for future in done:
            if future.exception() is not None:
                for other in pending:
                    other.cancel()
            future.result()


def _drain(queue: Queue[Advance], news: Callable[[Advance], None]) -> None:
    while True:
        try:
            news(queue.get_nowait())
        except Empty:
            return


def run_cell(suite: Suite, cell: Cell, queue: Queue[Advance]) -> None:
    """Trains, evaluates and analyses one cell; whatever is on disk is kept."""
    if suite.train.threads:
        import torch

        torch.set_num_threads(suite.train.threads)

    def sampled(done: int) -> None:
        queue.put(Advance(cell, "evaluate", done, {}))

    before = 0

    def updated(update: int, log: Row) -> None:
        nonlocal before
        queue.put(Advance(cell, "train", update - before, log))
        before = update

    with Grader() as grader, Engines() as engines:
        if cell.condition == BASE:
            evaluate_base(suite, cell.folder, grader, engines, sampled)
        else:
            command = f"sdbench train --suite {suite.name} --condition {cell.condition}"
            run = train(
                suite,
                cell.condition,
                cell.seed,
                cell.folder,
                updated,
                f"{command} --seed {cell.seed}",
                cell.store,
            )
            audit_run(run, grader)
            evaluate_run(run, suite, grader, engines, sampled)
            analyse_run(suite, cell.condition, run, grader, cell.store)
    queue.put(Advance(cell, "done", 0, {}))


def evaluate_base(
    suite: Suite, folder: Path, grader: Grader, engines: Engines, sampled: Callable[[int], None]
) -> None:
    """Evaluates the untrained model on validation and test, as if it were a run of no updates."""
    if not RunDir(folder).manifest.exists():
        test = problems.of_suite(suite, "test", suite.data.test_problems)
        data: Row = {
            "task": suite.task,
            **suite.data.model_dump(),
            "sha256": problems.fingerprint(test),
        }
        as_row = suite.model_dump(mode="json")
        describe_untrained(folder, BASE, UNTRAINED, suite.model, as_row, data)
    by_validation = suite.evaluation.selection == "validation"
    for split in ("validation", "test") if by_validation else ("test",):
        plan = checkpoint_plan(suite, folder, UNTRAINED, suite.model, split)
        evaluate(plan, grader, engines, sampled)


def analyse_run(
    suite: Suite, arm: str, run: RunDir, grader: Grader, store: Path | None = None
) -> None:
    """Writes the per-token advantages of a condition with a teacher, once.

    Args:
        suite: The run's suite.
        arm: Its condition.
        run: The run.
        grader: Of the traces that are analysed.
        store: Where critiques that cost something are kept and found; None for nowhere.
    """
    if run.advantages.exists():
        return
    found = analyse(suite, arm, grader, store)
    if found is not None:
        write_json(run.advantages, found)
