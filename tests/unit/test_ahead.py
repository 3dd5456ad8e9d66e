"""Rollouts drawn ahead: one update old, kept by checkpoints, refused where weights are shared."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixture import SEED, ignore, log_of, short

from sdbench import assembly, models
from sdbench.conditions.base import Group
from sdbench.config import Suite
from sdbench.engines import hf
from sdbench.engines.base import Request, Sampling
from sdbench.errors import ConfigError, EngineError, Stopped
from sdbench.models import Model
from sdbench.records import (
    Attempt,
    Completion,
    FinishReason,
    Problem,
    Rollout,
    Verdict,
    VerdictStatus,
)
from sdbench.rundir import Row, RunDir, read_json, read_rows
from sdbench.train import ahead, rollout
from sdbench.train.loop import train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OVERLAPPED = short("train.overlap=true", "train.updates=4", 'teacher={kind="ema", decay=0.5}')


class CopyingEngine:
    """Samples a copy of the weights as of the last `sync`, as an engine elsewhere does."""

    shares_weights = False

    def __init__(self) -> None:
        self._inner = hf.build(hf.Config(), models.load("organism"))

    @property
    def model(self) -> Model:
        return self._inner.model

    @property
    def max_length(self) -> int:
        return self._inner.max_length

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        return self._inner.stream(requests, sampling)

    def sync(self, network: PreTrainedModel) -> None:
        self._inner.model.network.load_state_dict(network.state_dict())

    def switch(self, model: Model) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(suite: Suite, model: Model) -> CopyingEngine:
        return CopyingEngine()

    monkeypatch.setattr(assembly, "engine", engine)


def group(name: str) -> list[Group]:
    return [Group(Problem(name, "arithmetic", "train", name, "1"), ())]


def name_of(groups: Sequence[Group]) -> str:
    return groups[0].problem.id


class Drawing:
    """Draws groups that are named after their update, and notes when and where."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.threads: set[int] = set()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, update: int) -> list[Group]:
        self.begun.append(update)
        self.threads.add(threading.get_ident())
        assert self.free.wait(10)
        return group(f"drawn {update}")


def test_each_update_gets_its_own_when_it_asks() -> None:
    draw = Drawing()
    source = ahead.Source(draw, ahead=False, first=1)
    for update in (1, 2, 3):
        assert name_of(source.take(update, 3)) == f"drawn {update}"
        assert draw.begun == list(range(1, update + 1))
        source.settle(update)
        assert source.held(update) is None
    source.close()
    assert draw.threads == {threading.get_ident()}


def test_the_next_are_drawn_while_one_trains() -> None:
    """The second begins when the first is taken; none is drawn beyond the last."""
    draw = Drawing()
    source = ahead.Source(draw, ahead=True, first=1)
    for update in (1, 2, 3):
        assert name_of(source.take(update, 3)) == f"drawn {update}"
        source.settle(update)
        assert draw.begun == list(range(1, min(update + 1, 3) + 1))
        held = source.held(update)
        assert (None if held is None else name_of(held)) == (
            f"drawn {update + 1}" if update < 3 else None
        )
    source.close()
    assert len(draw.threads) == 2


def test_weights_do_not_change_before_the_drawing_has_ended() -> None:
    draw = Drawing()
    source = ahead.Source(draw, ahead=True, first=2)
    source.take(2, 9)
    draw.free.clear()
    settled = threading.Event()

    def settle() -> None:
        source.settle(2)
        source.take(3, 9)
        source.settle(3)
        settled.set()

    thread = threading.Thread(target=settle)
    thread.start()
    assert not settled.wait(0.05)
    draw.free.set()
    thread.join()
    assert settled.is_set()
    source.close()


def test_what_a_checkpoint_kept_is_not_drawn_again() -> None:
    draw = Drawing()
    source = ahead.Source(draw, ahead=True, first=5, held=group("kept"))
    assert name_of(source.take(5, 9)) == "kept"
    source.settle(5)
    assert draw.begun == [6]
    source.close()


def test_a_fault_while_drawing_is_told() -> None:
    def fail(update: int) -> list[Group]:
        if update == 2:
            raise EngineError("no room")
        return group("first")

    source = ahead.Source(fail, ahead=True, first=1)
    source.take(1, 3)
    with pytest.raises(EngineError, match="no room"):
        source.settle(1)
    source.close()


TOKENS = st.lists(st.integers(0, 100_000), min_size=1, max_size=5).map(tuple)
NUMBERS = st.floats(-50, 0, allow_nan=False)


@st.composite
def attempts(draw: st.DrawFn, problem: Problem, index: int) -> Attempt:
    ids = draw(TOKENS)
    name = f"0:{problem.id}#{index}"
    one = Rollout(
        id=name,
        problem_id=problem.id,
        update=draw(st.integers(1, 99)),
        index=index,
        prompt_ids=draw(TOKENS),
        completion_ids=ids,
        sampling_logprobs=tuple(draw(NUMBERS) for _ in ids),
        text=draw(st.text(max_size=5)),
        finish_reason=draw(st.sampled_from(FinishReason)),
    )
    answer = draw(st.none() | st.text(max_size=3))
    return Attempt(problem, one, Verdict(name, draw(st.sampled_from(VerdictStatus)), answer, "r"))


@given(st.data())
def test_rollouts_go_through_json_and_back(data: st.DataObject) -> None:
    """To the last bit of a log-probability."""
    problems = [Problem(str(n), "arithmetic", "train", "1+2", "3") for n in range(3)]
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    groups = [
        Group(problem, tuple(data.draw(attempts(problem, index)) for index in range(size)))
        for problem, size in zip(problems, sizes, strict=False)  # as many problems as sizes
    ]
    rows: list[Row] = json.loads(json.dumps(ahead.as_rows(groups)))
    assert ahead.from_rows(rows, {problem.id: problem for problem in problems}) == groups


def test_an_engine_that_shares_the_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine 'hf' samples .*train\.overlap: .*hint: use"):
        train(OVERLAPPED, "critique", SEED, tmp_path / "run", ignore)
    assert list(read_rows(RunDir(tmp_path / "run").train_log)) == []


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def interrupt_at(number: int) -> Callable[[int, Row], None]:
    def progress(update: int, log: Row) -> None:
        if update == number and log:
            raise Interrupted

    return progress


def test_a_run_goes_on_with_the_very_rollouts_it_had_drawn(tmp_path: Path, copying: None) -> None:
    """Saved after updates 2 and 4; ended after 1, of which nothing was saved, then after 2 and 3.

    From the second update on rollouts are one update old, so their importance ratios are not 1.
    """
    whole = train(OVERLAPPED, "critique", SEED, tmp_path / "whole", ignore)
    for number in (1, 2, 3):
        with pytest.raises(Interrupted):
            train(OVERLAPPED, "critique", SEED, tmp_path / "run", interrupt_at(number))
    run = train(OVERLAPPED, "critique", SEED, tmp_path / "run", ignore)
    assert_same(run, whole)
    ratios = [float(str(row["importance/mean"])) for row in read_rows(whole.train_log)]
    assert ratios[0] == pytest.approx(1, abs=1e-5)
    assert all(abs(ratio - 1) > 1e-4 for ratio in ratios[1:])
    state = read_json(whole.checkpoint(2) / "training_state.json")
    held = state["ahead"]
    assert isinstance(held, list) and len(held) == 4
    assert read_json(whole.checkpoint(4) / "training_state.json")["ahead"] is None
    drawn = {row["id"] for row in read_rows(whole.rollouts) if row["update"] == 3}
    kept = {a["rollout"]["id"] for one in held for a in one["attempts"]}  # type: ignore[index, call-overload, union-attr]
    assert kept == drawn


def assert_same(run: RunDir, whole: RunDir) -> None:
    assert [p.name for p in run.saved_checkpoints()] == [p.name for p in whole.saved_checkpoints()]
    for path in whole.saved_checkpoints():
        for file in ("model", "optimizer", "optimizer.teacher"):
            ours, theirs = (one.checkpoints / path.name for one in (run, whole))
            name = f"{file}.safetensors"
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), f"{path.name} {name}"
    assert log_of(run) == log_of(whole)
    assert run.rollouts.read_bytes() == whole.rollouts.read_bytes()


@pytest.mark.parametrize("moment", ["drawing", "training"])
def test_a_stop_keeps_what_was_drawn(
    moment: str, tmp_path: Path, copying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM once the drawing of update 4 has begun: before update 3 trains, or amid it.

    And while the teacher's prompts of update 3 are made: its rollouts, drawn before, are kept.
    """
    from sdbench.conditions import critique

    whole = train(OVERLAPPED, "critique", SEED, tmp_path / "whole", ignore)
    with monkeypatch.context() as patched:
        if moment == "drawing":
            draw = rollout.draw

            def asked(*args: object) -> object:
                if args[3] == 4:
                    signal.raise_signal(signal.SIGTERM)
                return draw(*args)  # type: ignore[arg-type]

            patched.setattr(rollout, "draw", asked)
        else:
            feedback = critique.Critiqued.feedback

            def told(self: object, groups: Sequence[Group]) -> object:
                if groups[0].attempts[0].rollout.update == 3:
                    signal.raise_signal(signal.SIGTERM)
                return feedback(self, groups)  # type: ignore[arg-type]

            patched.setattr(critique.Critiqued, "feedback", told)
        with pytest.raises(Stopped, match=r"after update [23] of 4"):
            train(OVERLAPPED, "critique", SEED, tmp_path / "run", ignore)
    assert_same(train(OVERLAPPED, "critique", SEED, tmp_path / "run", ignore), whole)
