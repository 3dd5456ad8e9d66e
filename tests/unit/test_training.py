"""Training runs of three updates: resumed exactly, logged once, and refused where they differ."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdbench import models, problems
from sdbench.conditions.base import resolve
from sdbench.config import Suite, load_suite
from sdbench.errors import CheckpointError, ConfigError, DataError
from sdbench.rundir import Row, RunDir, append_rows, read_rows
from sdbench.train import ledger as ledgers
from sdbench.train.ledger import Ledger, Seconds
from sdbench.train.loop import train

ARMS = ("critique", "grpo", "grpo_matched_rollouts", "reference")
DISTILLED = ("critique", "reference")
OVERRIDES = (
    "data.train_problems=10",  # fewer than 3 x 4, so the last update begins a second epoch
    "data.validation_problems=6",
    "data.test_problems=4",
    "train.updates=3",
    "train.save_every=2",
    "train.problems_per_update=4",
    "train.learning_rate=3e-3",
    "train.warmup_updates=1",
    "train.micro_batch_rollouts=3",
    "condition.grpo.group_size=6",
    "condition.grpo_matched_rollouts.group_size=4",
    "condition.grpo_matched_rollouts.problems_per_update=1",
    "evaluation.k=2",
    "evaluation.validation_k=2",
)
SHORT = load_suite("tiny", OVERRIDES)
SEED = 3


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def ignore(update: int, log: Row) -> None:
    """Nobody watches."""


def interrupt_at(number: int) -> Callable[[int, Row], None]:
    def progress(update: int, log: Row) -> None:
        if update == number and log:
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """An undisturbed run of every arm."""
    root = tmp_path_factory.mktemp("undisturbed")
    return {arm: train(SHORT, arm, SEED, root / arm, ignore) for arm in ARMS}


@pytest.fixture
def copied(runs: dict[str, RunDir], tmp_path: Path) -> Callable[[str], RunDir]:
    def copy(arm: str) -> RunDir:
        return RunDir(Path(shutil.copytree(runs[arm].root, tmp_path / arm)))

    return copy


def log_without_times(run: RunDir) -> list[Row]:
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in read_rows(run.train_log)
    ]


def counts(run: RunDir) -> Row:
    """The ledger without the seconds, which differ from run to run."""
    found = run.read_manifest()["ledger"]
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name != "seconds"}


def assert_same_run(found: RunDir, expected: RunDir) -> None:
    """Weights and optimiser to the byte at every checkpoint; rows, but for times."""
    saved = [path.name for path in expected.saved_checkpoints()]
    assert [path.name for path in found.saved_checkpoints()] == saved
    for name in saved:
        for file in ("model.safetensors", "optimizer.safetensors"):
            ours, theirs = found.checkpoints / name / file, expected.checkpoints / name / file
            assert ours.read_bytes() == theirs.read_bytes(), f"{name}/{file}"
    assert log_without_times(found) == log_without_times(expected)
    for ours, theirs in (
        (found.rollouts, expected.rollouts),
        (found.feedback, expected.feedback),
    ):
        assert list(read_rows(ours)) == list(read_rows(theirs))
    assert counts(found) == counts(expected)


@pytest.mark.parametrize("arm", ARMS)
def test_an_interrupted_run_ends_like_the_undisturbed_one(
    arm: str, runs: dict[str, RunDir], tmp_path: Path
) -> None:
    """Ended once after update 1, of which nothing was saved, and once after the save at update 2."""
    for number in (1, 2):
        with pytest.raises(Interrupted):
            train(SHORT, arm, SEED, tmp_path / arm, interrupt_at(number))
    assert_same_run(train(SHORT, arm, SEED, tmp_path / arm, ignore), runs[arm])


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from unit.test_training import SHORT, SEED, ignore
from sdbench.train import policy
from sdbench.train.loop import train

update = policy.learning_rate

def killed(config, number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(config, number)

policy.learning_rate = killed
train(SHORT, "critique", SEED, Path({folder!r}), ignore)
"""


def test_a_run_killed_in_an_update_resumes_like_the_undisturbed_one(
    runs: dict[str, RunDir], tmp_path: Path
) -> None:
    """SIGKILL once the rollouts of update 3 are drawn and graded, before the weights move.

    What a kill at a worse moment can leave is added by hand: a line cut short in each log, rows of
    the unsaved update, and half a checkpoint.
    """
    folder = tmp_path / "critique"
    script = CHILD.format(tests=str(Path(__file__).parent.parent), folder=str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = RunDir(folder)
    assert [path.name for path in run.saved_checkpoints()] == ["000002"]
    append_rows(run.rollouts, [{"update": 3, "id": "left over"}])
    for path in (run.rollouts, run.feedback, run.train_log):
        with path.open("a") as file:
            file.write('{"update": 3, "train/lo')
    half = run.checkpoints / ".000003.part"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert_same_run(train(SHORT, "critique", SEED, folder, ignore), runs["critique"])
    assert not half.exists()


@pytest.mark.parametrize("arm", ARMS)
def test_logs_hold_every_update_and_rollout_once(arm: str, runs: dict[str, RunDir]) -> None:
    run = runs[arm]
    config = resolve(SHORT, arm).config
    per_update = (config.problems_per_update or 4) * config.group_size
    assert [row["update"] for row in read_rows(run.train_log)] == [1, 2, 3]
    rollouts = list(read_rows(run.rollouts))
    ids = [row["id"] for row in rollouts]
    assert len(set(ids)) == len(ids) == 3 * per_update
    told = [row["rollout_id"] for row in read_rows(run.feedback)]
    assert sorted(map(str, told)) == sorted(map(str, ids))
    for number in (1, 2, 3):
        assert sum(row["update"] == number for row in rollouts) == per_update


@pytest.mark.parametrize("arm", ARMS)
def test_the_ledger_counts_what_the_logs_hold(arm: str, runs: dict[str, RunDir]) -> None:
    run = runs[arm]
    config = resolve(SHORT, arm).config
    rollouts = list(read_rows(run.rollouts))
    found = counts(run)
    tokens = {row["id"]: row["tokens"] for row in rollouts}
    taught = [
        row["rollout_id"] for row in read_rows(run.feedback) if row["advantage"] not in (0.0, -0.0)
    ]
    assert found == {
        "updates": 3,
        "problems": 3 * (config.problems_per_update or 4),
        "completions": len(rollouts),
        "tokens_generated": sum(int(str(n)) for n in tokens.values()),
        "tokens_trained": sum(int(str(tokens[name])) for name in taught),
        "teacher_tokens": found["teacher_tokens"],
        "critic_tokens": 0,
        "untaught_rollouts": len(rollouts) - len(taught),
    }
    assert (int(str(found["teacher_tokens"])) > 0) == (arm in DISTILLED)


def test_self_distilled_conditions_share_the_first_rollouts(runs: dict[str, RunDir]) -> None:
    """Before the first update all policies are one and the draws have one key each."""

    def first(arm: str) -> dict[str, Row]:
        return {str(r["id"]): r for r in read_rows(runs[arm].rollouts) if r["update"] == 1}

    expected = first(DISTILLED[0])
    assert len(expected) == 4
    for arm in DISTILLED[1:]:
        assert first(arm) == expected
    grouped = first("grpo")
    assert {name: row for name, row in grouped.items() if name.endswith("#0")} == expected
    alone = first("grpo_matched_rollouts")
    assert {name for name in alone if name.endswith("#0")} <= set(expected)
    assert len(alone) == 4


def test_a_finished_run_is_left_alone(copied: Callable[[str], RunDir]) -> None:
    run = copied("critique")
    before = {path: path.read_bytes() for path in run.root.rglob("*.*") if path.is_file()}
    seen: list[int] = []
    train(SHORT, "critique", SEED, run.root, lambda update, log: seen.append(update))
    assert seen == [3]
    changed = {path: path.read_bytes() for path in run.root.rglob("*.*") if path.is_file()}
    assert changed == before


def test_weights_move_exactly_if_something_taught_and_checkpoints_load(
    runs: dict[str, RunDir],
) -> None:
    """Checkpoints 2 and 3, so update 3 alone lies between them; a flat GRPO batch has no gradient."""
    for arm in ARMS:
        norms = [row["train/gradient_norm"] for row in read_rows(runs[arm].train_log)]
        untrained = models.fingerprint(models.source_of("organism"))
        second, third = (models.fingerprint(str(p)) for p in runs[arm].saved_checkpoints())
        assert (untrained != second) == (norms[:2] != [0, 0])
        assert (second != third) == (norms[2] != 0)
        assert models.load(str(runs[arm].checkpoint(3))).end_ids == (2,)
        if arm != "grpo_matched_rollouts":  # one problem an update is often flat
            assert all(norms)


def test_another_seed_is_another_run(runs: dict[str, RunDir], tmp_path: Path) -> None:
    other = train(SHORT, "critique", SEED + 1, tmp_path / "other", ignore)
    ids = {row["id"] for row in read_rows(other.rollouts)}
    assert ids != {row["id"] for row in read_rows(runs["critique"].rollouts)}


@pytest.mark.parametrize(
    ("arm", "seed", "override", "key"),
    [
        ("reference", SEED, "train.updates=3", "condition"),
        ("critique", SEED + 1, "train.updates=3", "seed"),
        ("critique", SEED, "train.updates=4", r"suite\.train\.updates = 3, asked for 4"),
        ("critique", SEED, "sampling.temperature=0.5", r"suite\.sampling\.temperature"),
        ("critique", SEED, "condition.critique.loss=jsd", r"suite\.condition\.critique\.loss"),
        ("critique", SEED, "data.train_problems=11", r"suite\.data\.train_problems"),
    ],
)
def test_other_settings_on_the_same_folder_are_refused_by_key(
    copied: Callable[[str], RunDir], arm: str, seed: int, override: str, key: str
) -> None:
    run = copied("critique")
    before = run.manifest.read_bytes()
    with pytest.raises(ConfigError, match=rf"holds a run with {key}.*hint: give another --out"):
        train(load_suite("tiny", [*OVERRIDES, override]), arm, seed, run.root, ignore)
    assert run.manifest.read_bytes() == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        train(SHORT, "critique", SEED, tmp_path, ignore)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.fixture
def unfinished(copied: Callable[[str], RunDir]) -> RunDir:
    """A run that must go on from its checkpoint of update 2."""
    run = copied("critique")
    shutil.rmtree(run.checkpoint(3))
    return run


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_refused_by_name(unfinished: RunDir, file: str) -> None:
    shorten(unfinished.checkpoint(2) / file)
    with pytest.raises(CheckpointError, match=r"000002.*hint"):
        train(SHORT, "critique", SEED, unfinished.root, ignore)


def test_a_checkpoint_without_its_optimiser_is_refused(unfinished: RunDir) -> None:
    (unfinished.checkpoint(2) / "optimizer.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot resume from .*000002.*hint: delete"):
        train(SHORT, "critique", SEED, unfinished.root, ignore)


@pytest.mark.parametrize("state", [None, "{", "{}"])
def test_a_checkpoint_without_its_state_is_refused(unfinished: RunDir, state: str | None) -> None:
    path = unfinished.checkpoint(2) / "training_state.json"
    path.unlink()
    if state is not None:
        path.write_text(state)
    with pytest.raises(CheckpointError, match="000002"):
        train(SHORT, "critique", SEED, unfinished.root, ignore)


def test_a_kill_between_the_last_checkpoint_and_the_manifest_is_made_good(
    copied: Callable[[str], RunDir],
) -> None:
    """The manifest still tells of update 2, the checkpoint of update 3 is there."""
    run = copied("critique")
    whole = counts(run)
    manifest = run.read_manifest()
    state = json.loads((run.checkpoint(2) / "training_state.json").read_text())
    run.manifest.write_text(json.dumps({**manifest, "ledger": state["ledger"]}))
    train(SHORT, "critique", SEED, run.root, ignore)
    assert counts(run) == whole


def test_a_condition_that_lacks_data_says_so_before_the_first_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task without worked solutions has nothing to show to the teacher of `reference`."""
    load = problems.load
    monkeypatch.setattr(
        problems,
        "load",
        lambda *a, **k: [dataclasses.replace(p, solution=None) for p in load(*a, **k)],
    )
    with pytest.raises(DataError, match="no worked solution"):
        train(SHORT, "reference", SEED, tmp_path / "run", ignore)
    assert list(read_rows(RunDir(tmp_path / "run").train_log)) == []


def test_the_manifest_says_what_was_really_used(runs: dict[str, RunDir]) -> None:
    manifest = runs["grpo"].read_manifest()
    assert manifest["suite"] == SHORT.model_dump(mode="json")
    assert (manifest["condition"], manifest["seed"]) == ("grpo", SEED)
    assert Suite.model_validate(manifest["suite"]) == SHORT
    assert isinstance(manifest["versions"], dict) and "torch" in manifest["versions"]


def test_ledgers_add_up_and_are_read_back() -> None:
    one = Ledger(updates=1, problems=2, tokens_generated=30, seconds=Seconds(rollout=0.5, total=1))
    two = one.plus(Ledger(updates=1, critic_tokens=7).timed(total=0.25))
    assert (two.updates, two.problems, two.tokens_generated, two.critic_tokens) == (2, 2, 30, 7)
    assert (two.seconds.rollout, two.seconds.total) == (0.5, 1.25)
    assert ledgers.from_row(two.as_row()) == two
    assert one.updates == 1, "what was added to stays as it was"


def test_the_log_has_numbers_by_area(runs: dict[str, RunDir]) -> None:
    """The learning rate by hand: peak 3e-3 after one update, then 2/3 and 1/3 of it."""
    rows = list(read_rows(runs["critique"].train_log))
    assert [row["train/learning_rate"] for row in rows] == pytest.approx([3e-3, 2e-3, 1e-3])
    for row in rows:
        assert set(row) >= {"rollout/reward", "rollout/length", "rollout/truncated", "train/loss"}
        group = [r for r in read_rows(runs["critique"].rollouts) if r["update"] == row["update"]]
        right = sum(r["status"] == "correct" for r in group)
        assert row["rollout/reward"] == right / len(group)
        lengths = [int(str(r["tokens"])) for r in group]
        assert row["rollout/length"] == sum(lengths) / len(group)
