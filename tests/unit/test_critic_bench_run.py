"""Asking a critic: what it says is kept as it comes, nothing is asked twice, and choices are fair."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from critic_bench_fixture import SILENT, UNREADABLE, Says, Scripted, candidate, marked

from sdbench.critic_bench import marked as data
from sdbench.critic_bench import run
from sdbench.critic_bench.marked import Marked
from sdbench.critic_bench.schema import Result
from sdbench.critics import aligned
from sdbench.critics.base import CriticSurroundings
from sdbench.errors import ConfigError, DataError
from sdbench.rundir import alone_in, read_json, read_rows

TRACES = [marked("a/1", 2), marked("a/2", None), marked("b/1", 1), marked("b/2", None)]
SCRIPT: dict[str, Says] = {"a/1": 2, "a/2": UNREADABLE, "b/1": 3, "b/2": SILENT}


def ask(critic: Scripted, folder: Path, traces: list[Marked] = TRACES) -> Result:
    return run.run(candidate(critic), "champ", traces, 4, folder, lambda done: None)


def test_every_critique_is_kept_as_it_comes(tmp_path: Path) -> None:
    """In the order in which they came, what the critic kept silent about last."""
    found = ask(Scripted(SCRIPT), tmp_path)
    rows = list(read_rows(tmp_path / "critiques.jsonl"))
    assert [row["id"] for row in rows] == ["b/1", "a/2", "a/1", "b/2"]
    assert [row["came"] for row in rows] == [True, True, True, False]
    assert found == read_json(tmp_path / "results.json")
    assert found["ledger"] | {"seconds": 0} == {
        "critiques": 3,
        "unreadable": 1,
        "refused": 0,
        "missing": 1,
        "tokens": 30,
        "seconds": 0,
    }
    scores = found["scores"]
    assert scores["exact"] is not None and scores["exact"]["value"] == 1 / 4
    assert scores["unreadable"] is not None and scores["unreadable"]["value"] == 2 / 4


def test_a_second_call_asks_nothing(tmp_path: Path) -> None:
    first, second = Scripted(SCRIPT), Scripted({})
    before = ask(first, tmp_path)
    told: list[int] = []
    after = run.run(candidate(second), "champ", TRACES, 4, tmp_path, told.append)
    assert first.asked == [["a/1", "a/2", "b/1", "b/2"]] and second.asked == []
    assert told == [4]
    assert {**after, "provenance": None} == {**before, "provenance": None}
    assert len(after["asked"]) == 1


def test_after_a_kill_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    """Those of b/1 and a/2 came, and the third was cut short in the middle of its line."""
    with pytest.raises(KeyboardInterrupt):
        ask(Scripted(SCRIPT, dies_after=3), tmp_path)
    path = tmp_path / "critiques.jsonl"
    path.write_text(path.read_text() + '{"id": "a/1", "key"')
    again = Scripted(SCRIPT)
    found = ask(again, tmp_path)
    assert again.asked == [["a/1", "b/2"]]
    assert found["ledger"]["critiques"] == 3
    assert len(found["asked"]) == 2, "two calls asked the critic"


def test_a_critic_is_closed_even_if_it_fails(tmp_path: Path) -> None:
    fails, works = Scripted(SCRIPT, dies_after=1), Scripted(SCRIPT)
    with pytest.raises(KeyboardInterrupt):
        ask(fails, tmp_path / "a")
    ask(works, tmp_path / "b")
    assert (fails.closed, works.closed) == (1, 1)


def test_a_larger_choice_asks_about_the_new_traces_alone(tmp_path: Path) -> None:
    ask(Scripted(SCRIPT), tmp_path, TRACES[:2])
    more = Scripted(SCRIPT)
    found = ask(more, tmp_path)
    assert more.asked == [["b/1", "b/2"]]
    assert found["data"]["traces"] == 4
    fewer = ask(Scripted({}), tmp_path, TRACES[1:2])
    assert fewer["ledger"]["critiques"] == 1 and fewer["data"]["problems"] == 1


def test_a_trace_that_has_changed_is_asked_again(tmp_path: Path) -> None:
    ask(Scripted(SCRIPT), tmp_path)
    changed = [marked("a/1", 2, extra=", written anew"), *TRACES[1:]]
    again = Scripted({"a/1": 1})
    found = ask(again, tmp_path, changed)
    assert again.asked == [["a/1"]]
    assert found["scores"]["exact"] is not None and found["scores"]["exact"]["value"] == 0


def test_a_folder_of_another_critic_is_refused(tmp_path: Path) -> None:
    ask(Scripted(SCRIPT), tmp_path)
    other = Scripted(SCRIPT, identity="scripted-2")
    with pytest.raises(ConfigError, match=r"by scripted-1, not by scripted-2.*--out") as error:
        ask(other, tmp_path)
    assert "\n" not in str(error.value)
    assert other.asked == []


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    other = Scripted(SCRIPT)
    with alone_in(tmp_path, "writing critiques"), pytest.raises(DataError, match="another process"):
        ask(other, tmp_path)
    assert not (tmp_path / "critiques.jsonl").exists()
    assert other.closed == 1


def test_results_say_which_traces_and_what_they_cost(tmp_path: Path) -> None:
    found = ask(Scripted(SCRIPT), tmp_path)
    assert found["data"] == {
        "name": "champ",
        "traces": 4,
        "of": 4,
        "problems": 2,
        "erroneous": 2,
        "error_free": 2,
        "authors": {"A": 4},
        "categories": {"algebra": 4},
        "chosen": "all",
        "fingerprint": data.fingerprint(TRACES),
    }
    assert ask(Scripted({}), tmp_path, TRACES[:3])["data"]["chosen"] == data.CHOSEN
    assert found["critic"]["options"] == {"wit": 3}
    assert json.loads((tmp_path / "critic.json").read_text())["identity"] == "scripted-1"


def test_the_choice_is_fair_and_grows() -> None:
    """Forty traces by A and twenty by B: of six, four are A's and two B's."""
    every = [marked(f"{n}/x", None, author="A" if n < 40 else "B") for n in range(60)]
    six = data.chosen(every, 6)
    assert Counter(trace.author for trace in six) == {"A": 4, "B": 2}
    taken = [set(trace.id for trace in data.chosen(every, n)) for n in range(1, 61)]
    assert [len(ids) for ids in taken] == list(range(1, 61))
    assert all(fewer < more for fewer, more in pairwise(taken))
    assert data.chosen(every, None) == data.chosen(every, 60) == every
    shuffled = data.chosen(every[::-1], 6)
    assert {trace.id for trace in shuffled} == {trace.id for trace in six}
    assert six != every[:6], "by hash, not the first ones"


def test_what_is_known_does_not_move_the_choice() -> None:
    every = [marked(f"{n}/x", 1) for n in range(20)]
    other = [marked(f"{n}/x", None) for n in range(20)]
    ids = [[trace.id for trace in data.chosen(some, 5)] for some in (every, other)]
    assert ids[0] == ids[1]
    assert data.fingerprint(every) != data.fingerprint(other)


def test_more_traces_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ConfigError, match="--limit 5: the data hold 4 traces"):
        data.chosen(TRACES, 5)


def test_a_critic_is_told_nothing_of_the_marks() -> None:
    """No verdict depends on them, and the reason for ending only on whether there is an answer."""
    champ = data.load("champ")
    assert len(champ) == 540
    by_status = Counter(
        (trace.attempt.verdict.status.value, trace.attempt.rollout.finish_reason.value)
        for trace in champ
    )
    assert by_status == {("unparsable", "stop"): 534, ("truncated", "length"): 6}


def test_a_critic_without_a_model_judges_marked_solutions() -> None:
    """The aligned critic takes prose with equations; it is no judge of competition problems."""
    some = data.chosen(data.load("champ"), 8)
    critic = aligned.build(aligned.Config(), CriticSurroundings("steps"))
    judged = list(critic.critique([trace.attempt for trace in some]))
    assert {one.rollout_id for one in judged} == {trace.id for trace in some}


def test_a_critic_without_an_identity_goes_by_its_options() -> None:
    one, same = run.open_candidate("oracle", []), run.open_candidate("oracle", [])
    assert one.identity == same.identity and one.identity.startswith("oracle-")
    assert one.entry == {"name": "oracle", "label": "oracle", "options": {}}
