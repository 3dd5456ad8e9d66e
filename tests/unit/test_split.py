"""Frozen splits: what is refused, what the file holds, and that a suite works on these very problems."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from training_fixture import SEED, ignore, short

from sdbench import problems, split_file
from sdbench.config import Suite
from sdbench.curate.split import Pool, deal, pool_of, write
from sdbench.errors import ConfigError, DataError
from sdbench.evaluate.evaluation import checkpoint_plan, other_task
from sdbench.records import Problem
from sdbench.rundir import read_json, read_rows, write_json
from sdbench.train import warmup
from sdbench.train.loop import train

Run = Callable[..., int]
SIZES = {"train": 10, "validation": 6, "test": 4}


def pool(*questions: str) -> Pool:
    found = [Problem(f"{i}", "arithmetic", "train", q, "1") for i, q in enumerate(questions)]
    return Pool("arithmetic", ("train",), tuple(found), {})


@pytest.fixture(scope="module")
def arithmetic() -> Pool:
    """The first 40 training problems."""
    whole = pool_of("arithmetic")
    return Pool(whole.task, whole.splits, whole.problems[:40], whole.source)


@pytest.fixture
def frozen(arithmetic: Pool, tmp_path: Path) -> Path:
    path = tmp_path / "frozen.json"
    write(deal(arithmetic, SIZES), path)
    return path


def suite_with(path: Path, *changes: str) -> Suite:
    return short(f'data.split="{path}"', *changes)


def ids(path: Path, split: str) -> list[str]:
    return list(split_file.read(path).splits[split])


def test_the_file_says_what_it_freezes_and_where_it_comes_from(
    frozen: Path, arithmetic: Pool
) -> None:
    row = read_json(frozen)
    assert row["sizes"] == SIZES
    assert (row["task"], row["sources"], row["seed"]) == ("arithmetic", ["train"], 0)
    assert row["source"] == {"task": "arithmetic", "splits": ["train"], "problems": 4096}
    assert {"command", "git", "near_duplicates", "left_out", "against"} <= set(row)
    held = {problem.id: problem for problem in arithmetic.problems}
    for split, size in SIZES.items():
        marks = split_file.read(frozen).splits[split]
        assert len(marks) == size
        assert all(problems.fingerprint([held[id]]) == mark for id, mark in marks.items())


def test_a_question_that_comes_twice_is_refused_or_left_out() -> None:
    """Blanks and capitals make no other question of it. Of the two the one with the first id stays."""
    repeated = pool("1+2", "Three", "1 + 2", "three ", "4")
    sizes = {"train": 1, "validation": 1, "test": 1}
    with pytest.raises(DataError, match=r"2 of 5 problems .* overlap: .*--drop-overlap"):
        deal(repeated, sizes)
    found = deal(repeated, sizes, drop_overlap=True)
    assert {one.id for split in found.splits.values() for one in split} == {"0", "1", "4"}
    assert {(one.problem.id, one.other.id) for one in found.left_out} == {("2", "0"), ("3", "1")}


def test_an_overlap_with_evaluation_problems_of_a_task_is_refused() -> None:
    """A question of the task's own test, under another id; then one with a test problem's id."""
    test = problems.load("arithmetic", "test", 2)
    sizes = {"train": 1, "validation": 0, "test": 1}
    with pytest.raises(DataError, match=rf"1 of 3 .*: 2 is {re.escape(test[0].id)} of"):
        deal(pool("a", "b", test[0].prompt), sizes, against=["arithmetic"])
    same_id = Problem(test[1].id, "arithmetic", "train", "c", "1")
    mixed = Pool("arithmetic", ("train",), (*pool("a", "b").problems, same_id), {})
    with pytest.raises(DataError, match="1 of 3 problems"):
        deal(mixed, sizes, against=["arithmetic"])
    found = deal(mixed, sizes, against=["arithmetic"], drop_overlap=True)
    assert [one.problem for one in found.left_out] == [same_id]
    assert found.near.splits[0].problems == 1
    assert found.near_against is not None
    assert [one.problems for one in found.near_against.splits] == [512, 1024]


def test_near_duplicates_of_the_new_splits_are_reported() -> None:
    """All four questions differ in one number only, of nine shingles each: 6 of 12 are common."""
    asked = pool(*(f"a b c d {n} e f g h i j" for n in range(4)))
    found = deal(asked, {"train": 2, "validation": 1, "test": 1})
    assert found.near.share == 1
    assert found.near.near_pairs == 4
    assert {pair.similarity for pair in found.near.pairs} == {6 / 12}


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"train": 0, "validation": 1, "test": 1}, ConfigError, "--train 0: .* from 1"),
        ({"train": 1, "validation": -1, "test": 1}, ConfigError, "--validation -1: .* from 0"),
        ({"train": 2, "validation": 1, "test": 1}, DataError, "found 3 problems, .* take 4"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        deal(pool("a", "b", "c"), sizes)


def test_a_file_is_never_overwritten_by_other_problems(arithmetic: Pool, frozen: Path) -> None:
    before = frozen.read_bytes()
    write(deal(arithmetic, SIZES), frozen)
    with pytest.raises(ConfigError, match="freezes other problems"):
        write(deal(arithmetic, SIZES, seed=1), frozen)
    assert frozen.read_bytes() == before
    other = frozen.with_name("other.json")
    write_json(other, {"my": "notes"})
    with pytest.raises(DataError, match="no split file"):
        write(deal(arithmetic, SIZES), other)


def test_a_suite_trains_and_is_evaluated_on_exactly_these_problems(
    frozen: Path, tmp_path: Path
) -> None:
    """Twelve draws in three updates pass through all ten training problems."""
    suite = suite_with(frozen)
    run = train(suite, "grpo", SEED, tmp_path / "run", ignore)
    drawn = {str(row["problem_id"]) for row in read_rows(run.rollouts)}
    assert drawn == set(ids(frozen, "train"))
    for split in ("validation", "test"):
        found = checkpoint_plan(suite, run.root, "000000", suite.model, split).load()
        assert [problem.id for problem in found] == ids(frozen, split)
        assert {problem.split for problem in found} == {split}
    assert run.read_manifest()["suite"] == suite.model_dump(mode="json")


def test_a_suite_without_a_file_is_as_ever(tmp_path: Path) -> None:
    suite = short()
    assert "split" not in suite.model_dump(mode="json")["data"]
    assert problems.of_suite(suite, "train", 3) == problems.load("arithmetic", "train", 3)
    assert checkpoint_plan(suite, tmp_path, "0", "organism", "test").load() == problems.load(
        "arithmetic", "test", 4
    )


def test_a_suite_that_names_a_file_keeps_it(frozen: Path) -> None:
    suite = suite_with(frozen)
    assert Suite.model_validate(suite.model_dump(mode="json")) == suite
    assert [p.id for p in problems.of_suite(suite, "train", 3)] == ids(frozen, "train")[:3]


def test_another_task_of_the_same_model_has_its_own_problems(frozen: Path, tmp_path: Path) -> None:
    plan = checkpoint_plan(suite_with(frozen), tmp_path, "0", "organism", "test")
    assert plan.split_path == str(frozen)
    assert other_task(plan, "champ").split_path is None


def test_each_split_file_has_a_warmed_model_of_its_own(
    frozen: Path, arithmetic: Pool, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    write(deal(arithmetic, SIZES, seed=1), other)
    copy = tmp_path / "copy.json"
    copy.write_bytes(frozen.read_bytes())
    folders = [
        warmup.folder_of(suite, tmp_path)
        for suite in (short(), *map(suite_with, (frozen, copy, other)))
    ]
    assert folders[1] == folders[2]
    assert len(set(folders)) == 3


def test_samples_of_a_split_file_are_graded_again(
    run: Run, capsys: pytest.CaptureFixture[str], frozen: Path
) -> None:
    chosen = ("--set", f"data.split={frozen}", "--set", "data.test_problems=4", "--k", 1)
    assert run("eval", "organism", *chosen, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["per_problem"]) == ids(frozen, "test")
    assert found["split_file"] == str(frozen)
    assert run("eval", "runs", "--regrade", "--json") == 0
    (again,) = json.loads(capsys.readouterr().out)["regraded"]
    assert (again["samples"], again["changes"]) == (4, [])


def spoil(path: Path, change: Callable[[dict[str, dict[str, str]]], object]) -> None:
    row = json.loads(path.read_text())
    change(row["splits"])
    write_json(path, row)


def test_problems_that_have_changed_are_refused_with_their_number(frozen: Path) -> None:
    first, second = ids(frozen, "test")[:2]
    suite = suite_with(frozen)
    spoil(frozen, lambda splits: splits["test"].update({first: "0" * 16, second: "0" * 16}))
    with pytest.raises(
        DataError, match=rf"2 of 4 .* arithmetic are missing .* {re.escape(first)}"
    ) as caught:
        problems.of_suite(suite, "test")
    assert "\n" not in str(caught.value)
    assert len(problems.of_suite(suite, "train")) == SIZES["train"]


def test_a_problem_that_is_gone_is_refused(frozen: Path) -> None:
    spoil(frozen, lambda splits: splits["test"].update({"gone": "0" * 16}))
    with pytest.raises(DataError, match=r"1 of 5 .* the first is gone"):
        problems.of_suite(suite_with(frozen), "test")


def test_an_id_in_two_splits_is_refused(frozen: Path) -> None:
    spoil(frozen, lambda splits: splits["test"].update(splits["train"]))
    with pytest.raises(DataError, match="is in two splits"):
        problems.of_suite(suite_with(frozen), "test")


@pytest.mark.parametrize("row", [{}, {"format": 2}, {"format": 1, "task": "arithmetic"}])
def test_another_file_is_refused(row: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    write_json(path, row)
    with pytest.raises(DataError, match="is no split file of format 1"):
        problems.of_suite(suite_with(path), "test")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data.train_problems=11"], ["frozen.json, split train", "found 10", "wanted 11"]),
        (["task=champ"], ["frozen.json", "arithmetic", "champ"]),
        (["data.split=nowhere.json"], ["no such file: nowhere.json"]),
    ],
)
def test_a_suite_that_does_not_fit_its_file_is_one_line(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    frozen: Path,
    arguments: list[str],
    named: list[str],
) -> None:
    changes = [f"data.split={frozen}", "data.train_problems=10", *arguments]
    options = [part for change in changes for part in ("--set", change)]
    assert run("train", "--condition", "grpo", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in named), error


def test_the_command_writes_a_file_that_a_suite_can_name(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sizes = ("--train", 20, "--validation", 0, "--test", 5)
    assert run("data", "split", "champ", *sizes, "--against", "champ", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == "champ.split.json"
    assert found["sizes"] == {"train": 20, "validation": 0, "test": 5}
    assert [one["problems"] for one in found["near_duplicates"]["evaluation"]] == [5]
    others = found["near_duplicates_against"]["evaluation"]
    assert [(one["split"], one["problems"]) for one in others] == [("validation", 32), ("test", 64)]
    file = tmp_path / "champ.split.json"
    before = file.read_bytes()
    assert run("data", "split", "champ", *sizes, "--against", "champ") == 0
    assert "left over" in capsys.readouterr().out
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["champ", "--train", "200"], ["found 99 problems", "201"]),
        (["chmp", "--train", "1"], ["'chmp'", "champ"]),
        (["champ", "--train", "1", "--from", "dev"], ["'dev'", "validation"]),
        (["champ", "--train", "1", "--against", "dev"], ["'dev'"]),
        (["champ"], ["train"]),
        ([".", "--train", "1"], ["holds no filter.json", "sdbench data filter"]),
    ],
)
def test_mistakes_are_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run("data", "split", *arguments, "--validation", 0, "--test", 1) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in named), error
    assert not any(Path.cwd().rglob("*.json"))
