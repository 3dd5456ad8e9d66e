"""The organism's world by hand: problems, orders of work, both notations, the exact checker."""

from __future__ import annotations

from itertools import islice

import pytest

from sdbench.arithmetic import checker, dataset
from sdbench.arithmetic.expression import Split, parse, split_of, stream
from sdbench.arithmetic.worked import (
    Equation,
    Order,
    carry_out,
    plan,
    reference_solution,
    write_solution,
)
from sdbench.errors import DataError

# 24 + 3 - 5 + 14 = 36, so 6 modulo 10.
PROBLEM = parse("4*6+3-5+7*2")


@pytest.mark.parametrize(
    ("order", "steps"),
    [
        (Order.INTERLEAVED, ["4*6=4", "4+3=7", "7-5=2", "7*2=4", "2+4=6"]),
        (Order.PRODUCTS_FIRST, ["4*6=4", "7*2=4", "4+3=7", "7-5=2", "2+4=6"]),
        (Order.PRODUCTS_REVERSED, ["7*2=4", "4*6=4", "4+3=7", "7-5=2", "2+4=6"]),
    ],
)
def test_each_order_works_the_example_out_as_by_hand(order: Order, steps: list[str]) -> None:
    """24 leaves 4 and 14 leaves 4; 4+3=7, 7-5=2, 2+4=6, whatever comes first."""
    assert [str(e) for e in carry_out(PROBLEM, plan(PROBLEM, order))] == steps


def test_reference_notation_of_the_example() -> None:
    """Products from the last, sums from the last: 14->4, 24->4, 4+4=8, 8-5=3, 3+3=6."""
    assert reference_solution(PROBLEM) == (
        "4 : 2 x 7 ; 4 : 6 x 4 ; 8 : 4 & 4 ; 3 : 5 ~ 8 ; 6 : 3 & 3 ; <answer>6</answer>"
    )


def test_a_subtraction_below_zero_wraps_around() -> None:
    """2 - 5 = -3, which is 7 modulo 10."""
    assert parse("2-5").value == 7


@pytest.mark.parametrize(
    "text", ["", "+3", "-3", "3+", "3++4", "12+3", "3*4*5", "3 + 4", "3/4", "3+4\n", "a"]
)
def test_what_is_no_problem_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not an arithmetic problem"):
        parse(text)


def test_digits_of_other_scripts_are_refused() -> None:
    """An Arabic three is no digit that the solver's vocabulary has."""
    with pytest.raises(DataError):
        parse("٣+4")


def test_splits_have_their_shares() -> None:
    """Residues of one hash byte: 1/16, 1/16, 2/16, 12/16; four standard errors at n = 4,096."""
    expressions = [e for split in dataset.SIZES for e in islice(stream(split, 1), 50)]
    assert {split_of(e) for e in expressions} == set(dataset.SIZES)
    drawn: dict[Split, int] = {"test": 0, "validation": 0, "train": 0, "pretrain": 0}
    for left in range(64):
        for right in range(64):
            text = f"{left // 10}*{left % 10}+{right // 10}*{right % 10}-{left % 7}"
            drawn[split_of(parse(text))] += 1
    shares: dict[Split, float] = {
        "test": 1 / 16, "validation": 1 / 16, "train": 2 / 16, "pretrain": 12 / 16,
    }  # fmt: skip
    for split, share in shares.items():
        error = (share * (1 - share) / 4096) ** 0.5
        assert abs(drawn[split] / 4096 - share) < 4 * error, split


def test_pools_of_the_four_splits_share_no_problem() -> None:
    pools = {
        split: {e.text for e in islice(stream(split, dataset.SEED), 300)}
        for split in (*dataset.SIZES, "pretrain")
    }
    assert sum(map(len, pools.values())) == len(set().union(*pools.values())) == 1200


def test_a_stream_is_decided_by_split_and_seed() -> None:
    first = [e.text for e in islice(stream("train", 3), 20)]
    assert first == [e.text for e in islice(stream("train", 3), 20)]
    assert first != [e.text for e in islice(stream("train", 4), 20)]


@pytest.mark.parametrize(
    ("steps", "first_wrong"),
    [
        (["4*6=5", "5+3=8", "8-5=3", "7*2=4", "3+4=7"], 0),
        (["4*6=4", "4+3=7", "7-5=2", "2+4=6"], 3),  # joins a product that nobody multiplied out
        (["4*6=4", "4+3=7", "7-5=2", "2*7=4", "2+4=6"], 3),  # operands swapped
        (["4*6=4", "3+4=7"], 1),  # operands swapped
        (["4*6=4", "4*6=4"], 1),  # multiplied out twice
        (["4*6=4", "4-3=1"], 1),  # true, but the problem says plus
        (["4*6=4", "4+5=9"], 1),  # the next term is 3
        (["4*6=4", "4+3=7", "7-5=2", "7*2=4", "2+4=6", "6+0=6"], 5),  # goes on after the end
        (["4*6=4", "four"], 1),
        (["4*6=4", "4+3=7"], None),
    ],
)
def test_the_checker_names_the_first_wrong_step(steps: list[str], first_wrong: int | None) -> None:
    text = "".join(f"<step_{n}>{step}</step_{n}>" for n, step in enumerate(steps, 1))
    found = checker.check(PROBLEM, text)
    assert found.first_wrong == first_wrong
    assert not found.all_right


def test_right_steps_with_a_wrong_answer_are_complete_but_not_all_right() -> None:
    text = write_solution(carry_out(PROBLEM, plan(PROBLEM, Order.INTERLEAVED)))
    found = checker.check(PROBLEM, text.replace("<answer>6", "<answer>5"))
    assert found.complete and not found.answer_right and not found.all_right


def test_text_after_the_answer_is_not_all_right() -> None:
    text = write_solution(carry_out(PROBLEM, plan(PROBLEM, Order.INTERLEAVED)))
    assert checker.check(PROBLEM, text + " \n").all_right
    assert not checker.check(PROBLEM, text + "7").all_right


def test_progress_keeps_the_order_it_is_asked_for() -> None:
    """After `7*2=4` a solver that goes backwards multiplies 4*6 next; one that interleaves too."""
    progress = checker.begin(PROBLEM).advance(Equation(7, "*", 2, 4))
    assert progress is not None
    assert [str(e) for e in progress.finish(Order.PRODUCTS_REVERSED)] == [
        "4*6=4", "4+3=7", "7-5=2", "2+4=6",
    ]  # fmt: skip
    begun = checker.begin(PROBLEM)
    assert str(begun.finish(Order.PRODUCTS_REVERSED)[0]) == "7*2=4"
    assert str(begun.finish(Order.INTERLEAVED)[1]) == "4+3=7"
    assert str(begun.finish(Order.PRODUCTS_FIRST)[1]) == "7*2=4"


def test_the_data_set_has_its_sizes_distinct_ids_and_right_answers() -> None:
    loaded = dataset.load(metadata={"ignored": True})
    assert {split: len(rows) for split, rows in loaded.items()} == dict(dataset.SIZES)
    for split, rows in loaded.items():
        assert len(set(rows["id"])) == len(rows)
        for row in list(rows)[:50]:
            expression = parse(row["question"])
            assert split_of(expression) == split
            assert row["answer"] == str(expression.value)
            assert row["solution"] == reference_solution(expression)
