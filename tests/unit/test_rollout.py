"""Which problems an update takes, and how attempts are drawn, graded and grouped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench import problems
from sdbench.engines import fake
from sdbench.engines.base import Sampling
from sdbench.grading import Grader
from sdbench.models import Model
from sdbench.records import FinishReason, Problem, VerdictStatus
from sdbench.train.rollout import Turn, draw, problems_of

SAMPLING = Sampling(1.0, 40, 0)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


def named(count: int) -> list[Problem]:
    return [Problem(str(n), "arithmetic", "train", "1+2", "3") for n in range(count)]


def taken(count: int, per_update: int, updates: int, seed: int) -> list[Turn]:
    found = named(count)
    return [
        turn
        for update in range(1, updates + 1)
        for turn in problems_of(found, update, per_update, seed)
    ]


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 100))
def test_every_epoch_meets_each_problem_once(count: int, per_update: int, seed: int) -> None:
    turns = taken(count, per_update, 5, seed)
    assert len(turns) == 5 * per_update
    for start in range(0, len(turns) - count + 1, count):
        epoch = turns[start : start + count]
        assert {turn.epoch for turn in epoch} == {start // count}
        assert sorted(int(turn.problem.id) for turn in epoch) == list(range(count))


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 100))
def test_the_order_does_not_depend_on_how_many_are_taken(
    count: int, per_update: int, seed: int
) -> None:
    """So conditions that take unlike numbers of problems still meet the same ones in a row."""
    assert taken(count, per_update, 6, seed) == taken(count, 6 * per_update, 1, seed)


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    """Of 20 problems two equal orders would be a chance of 1 in 20 factorial."""
    turns = taken(20, 20, 2, 0)
    orders = [
        [t.problem.id for t in part] for part in (turns[:20], turns[20:], taken(20, 20, 1, 1))
    ]
    assert orders[0] != orders[1] and orders[0] != orders[2] and orders[1] != orders[2]


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    found = problems.load("arithmetic", "train", 2)
    return [Turn(found[0], 0), Turn(found[1], 0), Turn(found[0], 1)]


def test_attempts_are_graded_and_grouped_by_turn(
    organism: Model, grader: Grader, turns: list[Turn]
) -> None:
    """Right, wrong, no answer, cut; the same problem twice in two epochs makes two groups."""
    right = f"<answer>{turns[0].problem.answer}</answer>"
    wrong = f"<answer>{(int(turns[0].problem.answer) + 1) % 10}</answer>"
    script = {f"0:{turns[0].problem.id}": [right, wrong, "<step_1>", "1" * 50], "*": [right]}
    engine = fake.build(fake.Config(script=script), organism)
    groups = draw(engine, grader, turns, 7, 4, SAMPLING)
    assert [group.problem for group in groups] == [turn.problem for turn in turns]
    statuses = [attempt.verdict.status for attempt in groups[0].attempts]
    assert statuses == [
        VerdictStatus.CORRECT,
        VerdictStatus.INCORRECT,
        VerdictStatus.UNPARSABLE,
        VerdictStatus.TRUNCATED,
    ]
    cut = groups[0].attempts[3].rollout
    assert (cut.finish_reason, len(cut.completion_ids)) == (FinishReason.LENGTH, 40)
    rollouts = [attempt.rollout for group in groups for attempt in group.attempts]
    assert len({rollout.id for rollout in rollouts}) == len(rollouts) == 12
    assert {rollout.update for rollout in rollouts} == {7}
    for group in groups:
        assert {a.rollout.problem_id for a in group.attempts} == {group.problem.id}


def test_samples_are_numbered_over_all_epochs(
    organism: Model, grader: Grader, turns: list[Turn]
) -> None:
    """As `Rollout.index` and `draw` say; the id does tell epochs apart."""
    engine = fake.build(fake.Config(), organism)
    groups = draw(engine, grader, turns, 1, 2, SAMPLING)
    first, _, again = ([a.rollout.index for a in group.attempts] for group in groups)
    assert not set(first) & set(again)
