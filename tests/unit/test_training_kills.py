"""A run that is killed over and over ends with the weights of the undisturbed one, bit for bit."""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from processes_fixture import quick_processes
from training_fixture import SEED, ignore, log_of, short

from sdbench import problems
from sdbench.records import Problem
from sdbench.rundir import RunDir, read_rows, write_rows
from sdbench.train.loop import train

# When a kill strikes: a moment after a checkpoint, a moment after a row of the log, or any moment.
MOMENTS = ("checkpoint",) * 5 + ("row",) * 7 + ("any",) * 8
KILLS = len(MOMENTS)
UPDATES = 16
SUITE = short(
    f"train.updates={UPDATES}",
    "train.save_every=2",
    "train.keep_last=2",
    "train.keep_best=1",
    "train.problems_per_update=2",
    "train.micro_batch_rollouts=8",
    "sampling.max_tokens=40",
    "condition.grpo.group_size=8",
)


def run_in(folder: str, arm: str, drawn: str) -> None:
    """A run in a process of its own; its problems come from a file, since to make them takes long."""
    import torch

    def load(task: str, split: str, limit: int | None = None) -> list[Problem]:
        assert (task, split, limit) == (SUITE.task, "train", SUITE.data.train_problems)
        return [Problem(**row) for row in read_rows(Path(drawn))]  # type: ignore[arg-type]

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (ends with the process)
    problems.load = load
    train(SUITE, arm, SEED, Path(folder), ignore)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quick_processes()  # the first one takes long, which is no run's pace
    path = tmp_path_factory.mktemp("problems") / "train.jsonl"
    found = problems.load(SUITE.task, "train", SUITE.data.train_problems)
    write_rows(path, [dataclasses.asdict(one) for one in found])
    return path


def start(folder: Path, arm: str, drawn: Path) -> BaseProcess:
    process = quick_processes().Process(target=run_in, args=(str(folder), arm, str(drawn)))
    process.start()
    return process


def exit_code(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def logged(run: RunDir) -> int:
    return len(run.train_log.read_bytes().splitlines()) if run.train_log.exists() else 0


def newest(run: RunDir) -> int:
    saved = run.saved_checkpoints()
    return int(saved[-1].name) if saved else 0


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long this machine takes to the first update of a run, and for one update more."""

    first: float
    update: float


def undisturbed(run: RunDir, arm: str, drawn: Path) -> Pace:
    begin = time.monotonic()
    process = start(run.root, arm, drawn)
    while not logged(run) and process.is_alive():
        time.sleep(0.005)
    first = time.monotonic() - begin
    assert exit_code(process) == 0
    return Pace(first, (time.monotonic() - begin - first) / (UPDATES - 1))


def wait(run: RunDir, process: BaseProcess, moment: str, pace: Pace, rng: random.Random) -> None:
    """Waits for the moment to kill."""
    if moment == "any":
        time.sleep(rng.uniform(0.3 * pace.first, pace.first + pace.update))
        return
    rows, saved = logged(run), newest(run)
    while process.is_alive():
        rows = min(rows, logged(run))  # rows that are later than the checkpoint go first
        if newest(run) > saved or (moment == "row" and logged(run) > rows):
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, pace.update))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["critique", "grpo", "reference"])
def test_twenty_kills_at_random_moments_change_nothing(
    arm: str, tmp_path: Path, drawn: Path
) -> None:
    """While rollouts are drawn, weights move, rows are written, checkpoints saved and deleted."""
    whole, killed = RunDir(tmp_path / "whole"), RunDir(tmp_path / "killed")
    pace = undisturbed(whole, arm, drawn)

    rng = random.Random(arm)
    struck, continued_from = 0, set[int]()
    for moment in rng.sample(MOMENTS, KILLS):
        from_ = newest(killed)
        process = start(killed.root, arm, drawn)
        wait(killed, process, moment, pace, rng)
        if process.is_alive() and killed.manifest.exists():
            struck += 1
            continued_from.add(from_)
        process.kill()
        process.join()
        for path in killed.saved_checkpoints():
            assert (path / "training_state.json").exists(), "a half checkpoint is seen"
    # On a busy machine more of them come before the run has begun, or after it has ended.
    assert struck >= KILLS // 4, "kills did not strike the training"
    assert len(continued_from) >= 2, "checkpoints were hardly used"

    assert exit_code(start(killed.root, arm, drawn)) == 0
    kept = [path.name for path in whole.saved_checkpoints()]
    assert [path.name for path in killed.saved_checkpoints()] == kept
    for name in kept:
        for file in ("model.safetensors", "optimizer.safetensors"):
            one, other = (run.checkpoints / name / file for run in (whole, killed))
            assert one.read_bytes() == other.read_bytes(), f"{name}/{file}"
    assert log_of(killed) == log_of(whole)
    for rows in ("rollouts", "feedback"):
        one, other = (getattr(run, rows).read_bytes() for run in (whole, killed))
        assert one == other
    assert [path for path in killed.checkpoints.iterdir() if path.name.startswith(".")] == []
