"""What every condition must keep to: run over all that `plugins.names` finds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sdbench import plugins
from sdbench.arithmetic.expression import Expression, sample
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.conditions.base import Arm, Condition, Group, Surroundings, names, resolve
from sdbench.config import Suite
from sdbench.plugins import Kind
from sdbench.prompts import ContextKind
from sdbench.records import Attempt
from sdbench.train.batch import items

MakeAttempt = Callable[[Expression, str, int], Attempt]

CONDITIONS = plugins.names(Kind.CONDITION)


FREE = ("reference_free",)
"""Whose teacher reads no more than the student."""


@pytest.fixture(scope="module")
def groups(attempt_at: MakeAttempt) -> list[Group]:
    """Groups of two right, a wrong, a cut and an empty attempt, and one of equal attempts."""
    made = []
    for seed in range(3):
        problem = sample(random.Random(seed))
        right = write_solution(carry_out(problem, plan(problem, Order.INTERLEAVED)))
        wrong = right[:-10] + f"{(problem.value + 1) % 10}</answer>"
        texts = (right, wrong, right, right[:20], "") if seed else (right, right)
        attempts = tuple(attempt_at(problem, text, index) for index, text in enumerate(texts))
        made.append(Group(attempts[0].problem, attempts))
    return made


def built(name: str, suite: Suite, surroundings: Surroundings) -> Condition:
    return resolve(suite, name).build(surroundings)


@pytest.mark.parametrize("name", CONDITIONS)
def test_feedback_is_on_rollouts_at_most_once_each(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    rollouts = {a.rollout.id for group in groups for a in group.attempts}
    told = [f.rollout_id for f in built(name, tiny, surroundings).feedback(groups)]
    assert set(told) <= rollouts
    assert len(told) == len(set(told))
    assert told, "a condition that says nothing trains nothing"


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_feedback_teaches_or_says_why_not(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    """And every view holds its completion after a prompt that is longer than the student's."""
    rollouts = {a.rollout.id: a.rollout for group in groups for a in group.attempts}
    arm = resolve(tiny, name)
    feedback = arm.build(surroundings).feedback(groups)
    used = [one for one in feedback if one.dropped is None]
    assert used, "a condition that drops everything trains nothing"
    for one in used:
        assert one.advantage is not None or one.view is not None
        assert (one.view is None) == (one.context is None)
        assert (one.view is not None) == arm.config.teaches
        assert (one.against is not None) == arm.config.contrasts
        assert (one.demonstration is not None) == ("demonstration" in arm.config.gives)
        assert one.advantage is not None or "advantage" not in arm.config.gives
        rollout = rollouts[one.rollout_id]
        for view in (one.view, one.against):
            if view is not None:
                assert view.holds(rollout.completion_ids)
                more = view.positions[0] > len(rollout.prompt_ids)
                assert more != (name in FREE), "the teacher reads more"
        if one.critique is not None:
            assert one.critique.rollout_id == one.rollout_id
    assert {item.id for item in items(groups, feedback)} == {one.rollout_id for one in used}
    assert all(one.view is one.against is None for one in feedback if one.dropped is not None)


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_same_groups_get_the_same_feedback_in_any_order(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    condition = built(name, tiny, surroundings)
    first = {one.rollout_id: one for one in condition.feedback(groups)}
    again = {one.rollout_id: one for one in condition.feedback(groups[::-1])}
    anew = {one.rollout_id: one for one in built(name, tiny, surroundings).feedback(groups)}
    assert first == again == anew


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_context_stands_in_the_teachers_prompt(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    """All of the organism's contexts stand in the same tags."""
    problems = {a.rollout.id: a.problem for group in groups for a in group.attempts}
    kind: ContextKind = "solver" if name in FREE else "critique"
    for one in built(name, tiny, surroundings).feedback(groups):
        if one.view is not None and one.context is not None:
            prompt = surroundings.encode_teacher(kind, problems[one.rollout_id], one.context)
            assert one.view.input_ids[: one.view.positions[0]] == prompt


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_loss_of_a_condition_gets_what_it_needs(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    """By name: an advantage everywhere, a text to learn everywhere, or a view everywhere."""
    arm: Arm = resolve(tiny, name)
    feedback = arm.build(surroundings).feedback(groups)
    used = [one for one in feedback if one.dropped is None]
    if arm.config.loss == "policy_gradient":
        assert all(one.advantage is not None for one in used)
    elif arm.config.loss == "cross_entropy":
        assert all(one.demonstration for one in used)
    else:
        assert all(one.view is not None for one in used)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_says_it_compares_nothing_looks_at_no_other_rollout(
    name: str, tiny: Suite, surroundings: Surroundings, groups: list[Group]
) -> None:
    """One that compares nothing says the same of a rollout alone as among others."""
    arm = resolve(tiny, name)
    together = {one.rollout_id: one for one in arm.build(surroundings).feedback(groups)}
    alone = {
        one.rollout_id: one
        for group in groups
        for attempt in group.attempts
        for one in arm.build(surroundings).feedback([Group(group.problem, (attempt,))])
    }
    assert (together == alone) != arm.config.compares


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_has_a_summary_and_can_be_trained_by_name(name: str, tiny: Suite) -> None:
    assert plugins.summary(Kind.CONDITION, name)
    assert name in names(tiny)
