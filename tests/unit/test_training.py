"""Training runs of three updates: resumed exactly, logged once, and refused where they differ."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from processes_fixture import quick_processes
from training_fixture import SEED, ignore, log_of, short

from sdbench import models, problems
from sdbench.conditions.base import resolve, restricted
from sdbench.config import Suite, Train
from sdbench.critics import oracle
from sdbench.errors import CheckpointError, ConfigError, DataError
from sdbench.records import Attempt, Critique
from sdbench.rundir import Row, RunDir, append_rows, read_rows
from sdbench.train import ledger as ledgers
from sdbench.train import loop
from sdbench.train.ledger import Ledger, Seconds
from sdbench.train.loop import train

ARMS = ("critique", "grpo", "grpo_matched_rollouts", "reference")
DISTILLED = ("critique", "reference")
SHORT = short()


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


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


def counts(run: RunDir) -> Row:
    """The ledger without the seconds, which differ from run to run."""
    found = run.read_manifest()["ledger"]
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name != "seconds"}


def assert_same_run(found: RunDir, expected: RunDir) -> None:
    """Weights and optimiser to the byte at every checkpoint; rows, but for what was measured."""
    saved = [path.name for path in expected.saved_checkpoints()]
    assert [path.name for path in found.saved_checkpoints()] == saved
    for name in saved:
        files = sorted(path.name for path in (expected.checkpoints / name).glob("*.safetensors"))
        assert len(files) >= 2
        for file in files:
            ours, theirs = found.checkpoints / name / file, expected.checkpoints / name / file
            assert ours.read_bytes() == theirs.read_bytes(), f"{name}/{file}"
    assert log_of(found) == log_of(expected)
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


def killed_in(folder: str, number: int) -> None:
    """A run that ends itself before the weights move in this update; in a process of its own."""
    from sdbench.train import policy

    rate = policy.learning_rate

    def killed(config: Train, update: int) -> float:
        if update == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rate(config, update)

    torch.set_num_threads(1)
    policy.learning_rate = killed
    train(SHORT, "critique", SEED, Path(folder), ignore)


def test_a_run_killed_in_an_update_resumes_like_the_undisturbed_one(
    runs: dict[str, RunDir], tmp_path: Path
) -> None:
    """SIGKILL once the rollouts of update 3 are drawn and graded, before the weights move.

    What a kill at a worse moment can leave is added by hand: a line cut short in each log, rows of
    the unsaved update, and half a checkpoint.
    """
    folder = tmp_path / "critique"
    process = quick_processes().Process(target=killed_in, args=(str(folder), 3))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
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
        "critic_tokens_stored": 0,
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
        ("critique", SEED, "condition.critique.loss=jsd", r"condition_config\.loss"),
        ("critique", SEED, "data.train_problems=11", r"suite\.data\.train_problems"),
    ],
)
def test_other_settings_on_the_same_folder_are_refused_by_key(
    copied: Callable[[str], RunDir], arm: str, seed: int, override: str, key: str
) -> None:
    run = copied("critique")
    before = run.manifest.read_bytes()
    with pytest.raises(ConfigError, match=rf"holds a run with {key}.*hint: give another --out"):
        train(short(override), arm, seed, run.root, ignore)
    assert run.manifest.read_bytes() == before


def test_what_unwanted_rollouts_cost_stands_in_the_ledger(tmp_path: Path) -> None:
    """`critique_shuffled` on right rollouts asks the critic about the wrong ones as well."""
    suite = restricted(short(), "critique_shuffled", "correct")
    run = train(suite, "critique_shuffled_correct_only", SEED, tmp_path / "run", ignore)
    status = {row["id"]: row["status"] for row in read_rows(run.rollouts)}
    rows = list(read_rows(run.feedback))
    assert {row["rollout_id"] for row in rows} == set(status)
    for row in rows:
        assert (row["dropped"] == "unwanted") == (status[row["rollout_id"]] != "correct")
        assert row["critique"] is not None


def test_an_arm_that_came_later_does_not_keep_a_run_from_continuing(
    runs: dict[str, RunDir],
) -> None:
    """Nor one that was changed; the run's own arm is what it was."""
    run = runs["critique"]
    before = run.manifest.read_bytes()
    changed = ["condition.later.uses=grpo", "condition.grpo.group_size=5"]
    train(short(*changed), "critique", SEED, run.root, ignore)
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


MEASURED_NAMES = {
    *("time/seconds", "time/rollout", "time/critic", "time/teacher", "time/update"),
    *("speed/tokens_per_second", "memory/peak_gib"),
}
EVERY_RUN = {
    *("update", "warnings", "train/loss", "train/learning_rate", "train/gradient_norm"),
    *("train/entropy", "importance/mean", "importance/capped"),
    *("advantage/mean", "advantage/absolute"),
    *("rollout/reward", "rollout/length", "rollout/truncated"),
    *("rollout/repetition", "rollout/flat_groups"),
}
WITH_TEACHER = {"divergence/forward_kl", "divergence/reverse_kl"}
BY_ROLE = {"advantage/correct", "advantage/first_wrong", "advantage/later"}


def test_the_log_has_every_metric_by_name(runs: dict[str, RunDir]) -> None:
    """A reward has no divergence; only a critique says which step is wrong."""
    for arm, more in (
        ("grpo", set[str]()),
        ("reference", WITH_TEACHER),
        ("critique", WITH_TEACHER | BY_ROLE),
    ):
        for row in read_rows(runs[arm].train_log):
            names = set(row) - MEASURED_NAMES
            assert set(row) >= MEASURED_NAMES
            # An update may have no token of a role, or be flat throughout.
            assert names - BY_ROLE == (EVERY_RUN | more) - BY_ROLE, arm
            assert bool(names & BY_ROLE) == (arm == "critique")
            assert all(isinstance(v, int | float) for n, v in row.items() if n != "warnings")
            assert row["warnings"] == []


def test_the_log_has_the_numbers_of_the_rollouts(runs: dict[str, RunDir]) -> None:
    """The learning rate by hand: peak 3e-3 after one update, then 2/3 and 1/3 of it."""
    rows = list(read_rows(runs["critique"].train_log))
    assert [row["train/learning_rate"] for row in rows] == pytest.approx([3e-3, 2e-3, 1e-3])
    for row in rows:
        group = [r for r in read_rows(runs["critique"].rollouts) if r["update"] == row["update"]]
        right = sum(r["status"] == "correct" for r in group)
        assert row["rollout/reward"] == right / len(group)
        lengths = [int(str(r["tokens"])) for r in group]
        assert row["rollout/length"] == sum(lengths) / len(group)
        # The loss of critique is the mean forward KL itself, while no ratio is capped or far from 1.
        assert row["train/loss"] == pytest.approx(row["divergence/forward_kl"], rel=1e-4)
        assert row["importance/mean"] == pytest.approx(1, abs=1e-4)


def events_of(run: RunDir) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: values by metric and step."""
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    (folder,) = {path.parent for path in run.root.rglob("events.out.*")}
    events = EventAccumulator(str(folder)).Reload()
    found: dict[str, dict[int, float]] = {}
    for name in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(name)]
        assert steps == sorted(set(steps)), f"{name} has a step twice"
        found[name] = {event.step: event.value for event in events.Scalars(name)}
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
@pytest.mark.parametrize("interrupted", [False, True])
def test_tensorboard_shows_what_the_log_holds(
    interrupted: bool, runs: dict[str, RunDir], tmp_path: Path
) -> None:
    """Also of a run that was ended after update 3 and goes on from its checkpoint of update 2."""
    run = runs["critique"]
    if interrupted:
        with pytest.raises(Interrupted):
            train(short("train.updates=4"), "critique", SEED, tmp_path / "run", interrupt_at(3))
        run = train(short("train.updates=4"), "critique", SEED, tmp_path / "run", ignore)
    found = events_of(run)
    for row in read_rows(run.train_log):
        update = int(str(row["update"]))
        numbers = {name: v for name, v in row.items() if isinstance(v, int | float)}
        shown = {name: values[update] for name, values in found.items() if update in values}
        assert shown == pytest.approx(numbers, rel=1e-5)


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'; allowed: .*tensorboard"),
        ("wandb", "'wandb' is not installed.*pip install wandb"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused(
    tracker: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match=rf"train\.trackers: {message}"):
        train(short(f'train.trackers=["{tracker}"]'), "critique", SEED, tmp_path / "run", ignore)
    assert not (tmp_path / "run").exists()


def test_a_run_may_have_no_tracker(runs: dict[str, RunDir], tmp_path: Path) -> None:
    suite = short("train.trackers=[]", "train.updates=1")
    run = train(suite, "reference", SEED, tmp_path / "run", ignore)
    assert not list(run.root.rglob("events.out.*"))
    first = log_of(runs["reference"])[0]
    assert log_of(run)[0] == {**first, "train/learning_rate": 3e-3}


LORA = 'lora={rank=2, alpha=4.0, dropout=0.2, targets=["q_proj", "v_proj"]}'


@pytest.mark.parametrize("arm", ["critique", "grpo"])
def test_an_adapters_run_resumes_exactly(arm: str, tmp_path: Path) -> None:
    """Dropout belongs to seed and update, so it is the same again; the base is never written."""
    suite = short(LORA, 'teacher={kind="ema", decay=0.5}')
    whole = train(suite, arm, SEED, tmp_path / "whole", ignore)
    for number in (1, 2):
        with pytest.raises(Interrupted):
            train(suite, arm, SEED, tmp_path / "run", interrupt_at(number))
    assert_same_run(train(suite, arm, SEED, tmp_path / "run", ignore), whole)
    checkpoint = whole.checkpoint(3)
    assert not (checkpoint / "model.safetensors").exists()
    assert (checkpoint / "optimizer.teacher.safetensors").exists() == (arm == "critique")
    assert models.load(str(checkpoint)).adapter == str(checkpoint)


class Counting:
    """The oracle, which keeps the rollouts it was paid for."""

    identity = None

    def __init__(self) -> None:
        self.asked: list[Attempt] = []

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        self.asked += attempts
        return oracle.Oracle().critique(attempts)

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("arm", ["critique", "blend", "grpo"])
@pytest.mark.parametrize("wanted", ["correct", "incorrect"])
def test_an_arm_may_train_on_right_or_on_wrong_rollouts_alone(
    arm: str, wanted: str, runs: dict[str, RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No critic is paid for a rollout that is not trained on; groups are compared as a whole.

    A condition that compares asks for all, and what that cost is kept.
    """
    critic = Counting()
    monkeypatch.setattr(oracle, "build", lambda config, surroundings: critic)
    suite = short(
        "train.updates=1",
        f"condition.{arm}.rollouts={wanted}",
        f"condition.{arm}.group_size=6",
    )
    run = train(suite, arm, SEED, tmp_path / "run", ignore)
    status = {row["id"]: row["status"] for row in read_rows(run.rollouts)}
    chosen = {n for n, s in status.items() if (s == "correct") == (wanted == "correct")}
    assert 0 < len(chosen) < len(status) == 24
    rows = list(read_rows(run.feedback))
    told = {row["rollout_id"]: row for row in rows if row["dropped"] != "unwanted"}
    assert set(told) == chosen
    assert len(rows) == (24 if arm == "blend" else len(chosen))
    if arm == "critique":
        assert {attempt.rollout.id for attempt in critic.asked} == chosen
    if arm == "grpo":  # whose rollouts and so advantages are those of the whole groups
        whole = {row["rollout_id"]: row for row in read_rows(runs["grpo"].feedback)}
        assert all(row["advantage"] == whole[name]["advantage"] for name, row in told.items())
    found = counts(run)
    assert found["completions"] == 24
    tokens = {row["id"]: int(str(row["tokens"])) for row in read_rows(run.rollouts)}
    taught = {n for n, row in told.items() if arm != "grpo" or row["advantage"] != 0}
    assert found["untaught_rollouts"] == 24 - len(taught)
    assert found["tokens_trained"] == sum(tokens[str(name)] for name in taught)


def test_dropped_feedback_is_counted_and_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each update's 4 rollouts the critic has nothing to say of the first."""

    class Silent(Counting):
        def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
            return super().critique(attempts[1:])

    monkeypatch.setattr(oracle, "build", lambda config, surroundings: Silent())
    run = train(SHORT, "critique", SEED, tmp_path / "run", ignore)
    assert [row["feedback/critique"] for row in read_rows(run.train_log)] == [0.25] * 3
    tokens = {row["id"]: int(str(row["tokens"])) for row in read_rows(run.rollouts)}
    told = {row["rollout_id"]: row["dropped"] for row in read_rows(run.feedback)}
    kept = [name for name, dropped in told.items() if dropped is None]
    assert (len(told), len(kept)) == (12, 9)
    assert counts(run)["untaught_rollouts"] == 3
    assert counts(run)["tokens_trained"] == sum(tokens[name] for name in kept)


def test_a_checkpoint_says_how_it_was_made_and_how_it_stood(tmp_path: Path) -> None:
    """Its card, not peft's, has the command and the metrics of its last update."""
    suite = short(LORA, "train.updates=2")
    command = "sdbench train --condition critique --seed 3"
    run = train(suite, "critique", SEED, tmp_path / "run", ignore, command)
    lines = (run.checkpoint(2) / "README.md").read_text().splitlines()
    assert "# tiny, critique, seed 3, update 2" in lines
    assert lines[1:3] == ["base_model: organism", "library_name: peft"]
    assert f"    {command}" in lines
    *_, last = read_rows(run.train_log)
    for name in ("train/loss", "divergence/forward_kl", "rollout/reward"):
        assert f"| {name} | {last[name]:.6g} |" in lines


def test_a_run_in_which_no_rollout_is_wanted_goes_on(tmp_path: Path) -> None:
    """Of problems that the solver fails none is right: nothing is trained, and that is counted."""
    suite = short("condition.reference.rollouts=correct", "sampling.max_tokens=2")
    run = train(suite, "reference", SEED, tmp_path / "run", ignore)
    assert [row["update"] for row in read_rows(run.train_log)] == [1, 2, 3]
    found = counts(run)
    assert (found["tokens_trained"], found["untaught_rollouts"]) == (0, 12)
    assert models.fingerprint(str(run.checkpoint(3))) == models.fingerprint(
        models.source_of("organism")
    )


def test_seeds_have_dropout_of_their_own() -> None:
    """And updates and processes: what a run draws follows from these three alone."""
    drawn = {key: _drawn(*key) for key in [(0, 1, 0), (1, 0, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)]}
    assert len(set(drawn.values())) == len(drawn)
    assert _drawn(0, 1, 0) == drawn[0, 1, 0]


def _drawn(seed: int, update: int, process: int) -> float:
    loop._seed_dropout(seed, update, process)
    return torch.rand(1).item()
