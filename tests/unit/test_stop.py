"""SIGTERM: obeyed at once, or at the end of an update; the same command continues."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from processes_fixture import quick_processes
from training_fixture import OVERRIDES, SEED, ignore, log_of, short

from sdbench.errors import Stopped
from sdbench.rundir import Row, RunDir, read_json, read_rows
from sdbench.train.loop import train
from sdbench.train.stop import stopping


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_request_is_obeyed_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    reached = []
    with pytest.raises(Stopped, match="stopped by SIGTERM"), stopping(at_once=True):
        term()
        reached.append("on")
    assert not reached
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_held_request_is_obeyed_at_the_end_of_the_block() -> None:
    reached = []
    with pytest.raises(Stopped), stopping(at_once=True) as stop:
        with stop.held():
            term()
            reached.append("held")
        reached.append("on")
    assert reached == ["held"]


def test_a_fault_within_a_held_block_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), stopping(at_once=True) as stop, stop.held():
        term()
        _ = 1 / 0


def test_one_that_others_must_agree_with_is_only_noted() -> None:
    with stopping(at_once=False) as stop:
        term()
        with stop.held():
            term()
        assert stop.asked


def test_more_of_them_change_nothing() -> None:
    """A scheduler may send it to each process of a group, and again: the saving must go on."""
    saved = []
    with stopping(at_once=True) as stop:
        try:
            term()
        except Stopped:
            term()
            with stop.held():
                term()
            saved.append("all of it")
    assert saved


def test_none_takes_effect_once_it_is_over() -> None:
    with stopping(at_once=True) as stop:
        stop.over()
        term()
        assert stop.asked


def test_another_thread_gets_no_signals() -> None:
    """A run inside a worker thread leaves the handler of the main thread alone."""
    seen = []

    def inside() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stopping(at_once=True) as stop:
            seen.append(signal.getsignal(signal.SIGTERM) is before)
            seen.append(not stop.asked)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [True, True]


SUITE = short("train.save_every=3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The undisturbed run, saved after its last update."""
    return train(SUITE, "critique", SEED, tmp_path_factory.mktemp("whole") / "run", ignore)


def in_the_rollouts(monkeypatch: pytest.MonkeyPatch, update: int, send: Callable[[], None]) -> None:
    """Once the grader has the answers of this update."""
    from sdbench.train import rollout

    draw = rollout.draw

    def drawn(*args: object, **options: object) -> object:
        found = draw(*args, **options)  # type: ignore[arg-type]
        if args[3] == update:
            send()
        return found

    monkeypatch.setattr(rollout, "draw", drawn)


def in_the_update(monkeypatch: pytest.MonkeyPatch, update: int, send: Callable[[], None]) -> None:
    """Before the weights move."""
    from sdbench.train import policy

    rate = policy.learning_rate

    def asked(config: object, number: int) -> float:
        if number == update:
            send()
        return rate(config, number)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "learning_rate", asked)


@pytest.mark.parametrize(
    ("arrange", "update", "done"),
    [(in_the_rollouts, 3, 2), (in_the_update, 2, 2), (in_the_rollouts, 1, 0)],
)
def test_a_stopped_run_has_a_checkpoint_of_its_last_update_and_continues(
    arrange: Callable[..., None],
    update: int,
    done: int,
    whole: RunDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While rollouts are drawn the update before is the last; an update under way is finished."""
    with monkeypatch.context() as patched:
        arrange(patched, update, term)
        with pytest.raises(Stopped, match=rf"SIGTERM after update {done} of 3.*same command"):
            train(SUITE, "critique", SEED, tmp_path / "run", ignore)
    run = RunDir(tmp_path / "run")
    assert [int(path.name) for path in run.saved_checkpoints()] == ([done] if done else [])
    assert [row["update"] for row in read_rows(run.train_log)] == list(range(1, done + 1))
    train(SUITE, "critique", SEED, run.root, ignore)
    assert_same_end(run, whole)


def assert_same_end(run: RunDir, whole: RunDir) -> None:
    """Weights, optimiser and logs; what the stop had saved in between is gone."""
    assert [path.name for path in run.saved_checkpoints()] == ["000003"]
    for file in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (one.checkpoint(3) / file for one in (run, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    one, other = (read_json(r.checkpoint(3) / "training_state.json") for r in (run, whole))
    assert one["reward"] == other["reward"]
    assert log_of(run) == log_of(whole)


def from_the_command_line(folder: str, update: int) -> None:
    """`sdbench train`, which gets SIGTERM when this update is reported; in its own process."""
    from sdbench import dashboard
    from sdbench.cli import main

    os.chdir(folder)
    sys.stdout = open("stdout", "w")  # noqa: SIM115 (ends with the process)
    sys.stderr = open("stderr", "w")  # noqa: SIM115
    shown = dashboard.dashboard

    class Sending:
        def __init__(self, *arguments: object) -> None:
            self._inner = shown(*arguments)  # type: ignore[arg-type]

        def __enter__(self) -> Callable[[int, Row], None]:
            updated = self._inner.__enter__()

            def sending(number: int, log: Row) -> None:
                updated(number, log)
                if number == update and log:
                    term()

            return sending

        def __exit__(self, *fault: object) -> None:
            self._inner.__exit__(*fault)  # type: ignore[arg-type]

    dashboard.dashboard = Sending  # type: ignore[assignment]
    changes = [
        argument for one in (*OVERRIDES, "train.save_every=3") for argument in ("--set", one)
    ]
    sys.argv = ["sdbench", "train", "--condition", "critique", "--seed", str(SEED), *changes]
    sys.argv += ["--out", "run"]
    main()


def test_the_command_line_says_how_to_continue(whole: RunDir, tmp_path: Path) -> None:
    """One line on stderr, exit code 143; run again it ends like the undisturbed one."""
    context = quick_processes()
    for update, code in ((2, 143), (9, 0)):
        process = context.Process(target=from_the_command_line, args=(str(tmp_path), update))
        process.start()
        process.join()
        assert process.exitcode == code, (tmp_path / "stderr").read_text()
        said = (tmp_path / "stderr").read_text().splitlines()
        assert said == (
            ["stopped by SIGTERM after update 2 of 3 (hint: the same command continues)"]
            if code
            else []
        )
    assert_same_end(RunDir(tmp_path / "run"), whole)
