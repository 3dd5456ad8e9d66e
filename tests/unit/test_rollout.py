"""Which problems an update takes, and how attempts are drawn, graded and grouped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench import problems, prompts
from sdbench.engines import fake
from sdbench.engines.base import Request, Sampling
from sdbench.grading import Grader
from sdbench.models import Model
from sdbench.records import Completion, FinishReason, Problem, VerdictStatus
from sdbench.train.rollout import Asking, Turn, draw, problems_of

SAMPLING = Sampling(1.0, 40, 0)


def asking(group_size: int, thinking: bool | None = None) -> Asking:
    return Asking("organism", thinking, group_size, SAMPLING)


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
    groups = draw(engine, grader, turns, 7, asking(4))
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
    groups = draw(engine, grader, turns, 1, asking(2))
    first, _, again = ([a.rollout.index for a in group.attempts] for group in groups)
    assert not set(first) & set(again)


class Spy(fake.FakeEngine):
    """The fake engine, which keeps what it was asked."""

    requests: Sequence[Request] = ()

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        self.requests = requests
        return super().stream(requests, sampling)


def test_a_rollout_is_what_the_engine_drew(
    organism: Model, grader: Grader, turns: list[Turn]
) -> None:
    """Prompt, tokens and log-probabilities are handed on, and nothing is encoded again."""
    engine = Spy(fake.Config(), organism)
    groups = draw(engine, grader, turns, 1, asking(2))
    drawn = {
        f"{one.request_id}#{one.index}": one for one in engine.stream(engine.requests, SAMPLING)
    }
    prompts_of = {request.id: request.prompt_ids for request in engine.requests}
    for group in groups:
        for attempt in group.attempts:
            rollout = attempt.rollout
            one = drawn[rollout.id]
            assert rollout.completion_ids == one.token_ids
            assert rollout.sampling_logprobs == one.logprobs
            assert rollout.prompt_ids == prompts_of[one.request_id]
            assert (rollout.text, rollout.finish_reason) == (one.text, one.finish_reason)
            assert attempt.verdict.id == rollout.id


@pytest.mark.parametrize("thinking", [None, True, False])
def test_the_solver_is_asked_as_the_suite_says(
    organism: Model,
    grader: Grader,
    turns: list[Turn],
    thinking: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def solver(*arguments: object) -> tuple[int, ...]:
        asked.append(arguments[1:])
        return (1, 2, 3)

    monkeypatch.setattr(prompts, "solver", solver)
    engine = Spy(fake.Config(), organism)
    draw(engine, grader, turns, 1, asking(1, thinking))
    assert asked == [("organism", turn.problem.prompt, thinking) for turn in turns]
    assert {request.prompt_ids for request in engine.requests} == {(1, 2, 3)}
