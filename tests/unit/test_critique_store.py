"""The store of critiques: nothing is paid for twice, and nothing that was yielded is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.synchronize import Semaphore
from pathlib import Path

import pytest
from processes_fixture import quick_processes

from sdbench.critics._store import Stored
from sdbench.critics.base import content_key
from sdbench.records import (
    Attempt,
    Critique,
    CritiqueCase,
    FinishReason,
    Problem,
    Rollout,
    Verdict,
    VerdictStatus,
)
from sdbench.rundir import append_rows


def attempt(text: str, name: str = "", problem: str = "1+2") -> Attempt:
    """An attempt that says this."""
    name = name or f"rollout {text}"
    rollout = Rollout(name, "p", 1, 0, (), (), (), text, FinishReason.STOP)
    verdict = Verdict(name, VerdictStatus.INCORRECT, None, "by hand")
    return Attempt(Problem("p", "arithmetic", "train", problem, "3"), rollout, verdict)


def attempts(count: int) -> list[Attempt]:
    return [attempt(str(number)) for number in range(count)]


class Scripted:
    """Writes what it reads back, at 5 tokens each, and keeps what it was asked."""

    identity: str | None = "scripted-0123456789ab"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        for one in reversed(attempts):
            self.asked.append(one.rollout.text)
            yield critique_of(one)

    def close(self) -> None:
        self.closed = True


def critique_of(one: Attempt) -> Critique:
    text, name = one.rollout.text, one.rollout.id
    if text == "unreadable":
        return Critique(name, "scripted", None, "…", None, 5, ("unparsable",))
    return Critique(name, "scripted", CritiqueCase.INCORRECT, f"re: {text}", 2, 5)


def by_id(critiques: Iterator[Critique]) -> dict[str, Critique]:
    return {one.rollout_id: one for one in critiques}


def file_of(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    """All fields come back; for the other run they are stored, for the first one bought by itself."""
    asked = [*attempts(3), attempt("unreadable")]
    first = by_id(Stored(Scripted(), tmp_path, "run 1").critique(asked))
    assert first == {one.rollout.id: critique_of(one) for one in asked}
    inner = Scripted()
    other = by_id(Stored(inner, tmp_path, "run 2").critique(asked))
    assert other == {name: replace(one, stored=True) for name, one in first.items()}
    again = by_id(Stored(inner, tmp_path, "run 1").critique(asked))
    assert again == first
    assert inner.asked == []


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    list(Stored(Scripted(), tmp_path).critique(attempts(2)))
    inner = Scripted()
    assert len(by_id(Stored(inner, tmp_path).critique(attempts(4)))) == 4
    assert sorted(inner.asked) == ["2", "3"]


def test_what_says_the_same_is_asked_once_and_paid_once(tmp_path: Path) -> None:
    """Of rollouts in one batch, and in a later one; a run that continues finds it no other way."""
    batch = [attempt("a", "1"), attempt("b", "2"), attempt("a", "3")]
    inner = Scripted()
    stored = Stored(inner, tmp_path, "run")
    found = by_id(stored.critique(batch))
    assert sorted(inner.asked) == ["a", "b"]
    assert {name: one.stored for name, one in found.items()} == {"1": False, "2": False, "3": True}
    assert {one.text for name, one in found.items() if name != "2"} == {"re: a"}
    later = by_id(stored.critique([attempt("a", "4")]))
    assert later["4"].stored
    assert sorted(inner.asked) == ["a", "b"]
    continued = Stored(Scripted(), tmp_path, "run")
    assert by_id(continued.critique(batch)) == found
    assert by_id(continued.critique([attempt("a", "4")])) == later


def test_attempts_at_other_problems_differ(tmp_path: Path) -> None:
    inner = Scripted()
    list(Stored(inner, tmp_path).critique([attempt("a", "1"), attempt("a", "2", problem="2+1")]))
    assert inner.asked == ["a", "a"]


def test_a_key_is_of_every_part_and_of_no_name() -> None:
    one = attempt("a")
    problem = one.problem
    others = [
        attempt("b"),
        *(
            replace(one, problem=replace(problem, **{part: value}))
            for part, value in (("prompt", "1+3"), ("answer", "4"), ("solution", ""))
        ),
        replace(attempt("b"), problem=replace(problem, prompt="1+2a")),
    ]
    assert len({content_key(other) for other in [one, *others]}) == len(others) + 1
    renamed = replace(one, problem=replace(problem, split="test", task="other"))
    assert content_key(renamed) == content_key(attempt("a", "another name")) == content_key(one)


def test_a_critique_is_kept_before_the_next_is_written(tmp_path: Path) -> None:
    stream = Stored(Scripted(), tmp_path).critique(attempts(3))
    next(stream)
    assert len(file_of(tmp_path).read_bytes().splitlines()) == 1
    stream.close()  # type: ignore[attr-defined]
    inner = Scripted()
    assert len(list(Stored(inner, tmp_path).critique(attempts(3)))) == 3
    assert len(inner.asked) == 2


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_was_cut_short_is_asked_for_again(tmp_path: Path, cut: int) -> None:
    """Without its end of line only, it is whole."""
    list(Stored(Scripted(), tmp_path).critique(attempts(3)))
    path = file_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    inner = Scripted()
    assert len(by_id(Stored(inner, tmp_path).critique(attempts(3)))) == 3
    assert len(inner.asked) == 1
    after = Scripted()
    assert len(by_id(Stored(after, tmp_path).critique(attempts(3)))) == 3
    assert after.asked == []


def test_a_row_that_is_none_is_passed_over(tmp_path: Path) -> None:
    list(Stored(Scripted(), tmp_path).critique(attempts(1)))
    with file_of(tmp_path).open("ab") as file:
        file.write(b'\n{"key": \xff\n[]\n{"key": "a"}\n')
    append_rows(file_of(tmp_path), [{"key": "a", "run": "", "rollout_id": "a"}])
    inner = Scripted()
    assert len(list(Stored(inner, tmp_path).critique(attempts(2)))) == 2
    assert inner.asked == ["1"]


def test_two_that_write_at_once_lose_nothing_and_learn_of_each_other(tmp_path: Path) -> None:
    """What one has bought meanwhile the other finds when it is asked next."""
    first, second = Stored(Scripted(), tmp_path, "1"), Stored(Scripted(), tmp_path, "2")
    buyers = [
        threading.Thread(target=lambda: list(first.critique(attempts(300)))),
        threading.Thread(target=lambda: list(second.critique(attempts(600)[300:]))),
    ]
    for one in buyers:
        one.start()
    for one in buyers:
        one.join()
    rows = [json.loads(line) for line in file_of(tmp_path).read_bytes().splitlines()]
    assert len({row["key"] for row in rows}) == len(rows) == 600
    inner = Scripted()
    late = Stored(inner, tmp_path, "3")
    assert all(one.stored for one in late.critique(attempts(600)))
    assert list(first.critique(attempts(600)))[-1].stored
    assert inner.asked == []


def test_critics_of_another_identity_share_nothing(tmp_path: Path) -> None:
    list(Stored(Scripted(), tmp_path).critique(attempts(2)))
    other = Scripted()
    other.identity = "scripted-ba9876543210"
    list(Stored(other, tmp_path).critique(attempts(2)))
    assert len(other.asked) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scripted-0123456789ab.jsonl",
        "scripted-ba9876543210.jsonl",
    ]


def test_a_stored_critic_is_closed_with_its_store(tmp_path: Path) -> None:
    inner = Scripted()
    Stored(inner, tmp_path).close()
    assert inner.closed
    assert list(tmp_path.iterdir()) == []


class Slow(Scripted):
    """Tells of each critique that the reader has taken, and takes its time for the next."""

    def __init__(self, yielded: Semaphore) -> None:
        super().__init__()
        self._yielded = yielded

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        for one in super().critique(attempts):
            yield one
            self._yielded.release()
            time.sleep(0.002)


def buy(folder: str, yielded: Semaphore) -> None:
    for _ in Stored(Slow(yielded), Path(folder), "run").critique(attempts(2000)):
        pass


@pytest.mark.parametrize("wanted", [1, 40])
def test_a_kill_loses_no_critique_that_was_yielded(tmp_path: Path, wanted: int) -> None:
    context = quick_processes()
    yielded = context.Semaphore(0)
    process = context.Process(target=buy, args=(str(tmp_path), yielded))
    process.start()
    for _ in range(wanted):
        assert yielded.acquire(timeout=60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while yielded.acquire(block=False):
        wanted += 1
    inner = Scripted()
    found = by_id(Stored(inner, tmp_path, "run").critique(attempts(2000)))
    assert len(found) == 2000
    assert not any(one.stored for one in found.values()), "the run has paid for what it bought"
    assert len(inner.asked) <= 2000 - wanted
    assert len(inner.asked) >= 1000, "the kill came too late to show anything"
