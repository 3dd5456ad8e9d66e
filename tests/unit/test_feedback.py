"""The three conditions by hand, and what sets them apart."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.arithmetic.expression import Expression, parse, sample
from sdbench.conditions.base import Group, Surroundings, resolve
from sdbench.config import Suite
from sdbench.errors import ConfigError, DataError
from sdbench.records import Attempt, Verdict, VerdictStatus

MakeAttempt = Callable[[Expression, str, int], Attempt]

# 4*6=4, 4+3=7, 7-5=2, 7*2=4, 2+4=6.
PROBLEM = parse("4*6+3-5+7*2")
WRONG = "<step_1>4*6=4</step_1><step_2>4+3=8</step_2><answer>8</answer>"


def group_with(attempt_at: MakeAttempt, statuses: list[VerdictStatus]) -> Group:
    attempts = []
    for index, status in enumerate(statuses):
        attempt = attempt_at(PROBLEM, WRONG, index)
        verdict = Verdict(attempt.rollout.id, status, None, "by hand")
        attempts.append(dataclasses.replace(attempt, verdict=verdict))
    return Group(attempts[0].problem, tuple(attempts))


def advantages(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt, statuses: list[VerdictStatus]
) -> list[float]:
    condition = resolve(tiny, "grpo").build(surroundings)
    told = condition.feedback([group_with(attempt_at, statuses)])
    values = [one.advantage for one in told]
    assert all(one.view is None and one.context is None for one in told)
    return [value for value in values if value is not None]


def test_grpo_one_right_of_four(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """Rewards 1, 0, 0, 0: mean 1/4, deviation sqrt(3)/4, so sqrt(3) and three times -1/sqrt(3).

    A wrong, a cut, an unparsable and a late answer are all no success.
    """
    statuses = [
        VerdictStatus.CORRECT,
        VerdictStatus.INCORRECT,
        VerdictStatus.TRUNCATED,
        VerdictStatus.TIMEOUT,
    ]
    expected = [3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)]
    found = advantages(tiny, surroundings, attempt_at, statuses)
    assert found == pytest.approx(expected, abs=1e-5)


STATUSES = st.lists(st.sampled_from(VerdictStatus), min_size=1, max_size=16)


@given(STATUSES)
def test_grpo_advantages_of_a_group_sum_to_zero(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt, statuses: list[VerdictStatus]
) -> None:
    found = advantages(tiny, surroundings, attempt_at, statuses)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    right = [status is VerdictStatus.CORRECT for status in statuses]
    if all(right) or not any(right):
        assert found == [0.0] * len(statuses)
    else:
        assert all((value > 0) == good for value, good in zip(found, right, strict=True))
        assert sum(value**2 for value in found) / len(found) == pytest.approx(1, abs=1e-4)


def test_grpo_normalises_within_each_group_alone(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """A flat group beside a mixed one stays at 0: means are never taken over groups."""
    flat = group_with(attempt_at, [VerdictStatus.CORRECT] * 2)
    other = sample(random.Random(1))
    attempts = (
        attempt_at(other, f"<answer>{other.value}</answer>", 0),
        attempt_at(other, "<answer>x</answer>", 1),
    )
    mixed = Group(attempts[0].problem, attempts)
    told = resolve(tiny, "grpo").build(surroundings).feedback([flat, mixed])
    assert [one.advantage for one in told] == pytest.approx([0, 0, 1, -1], abs=1e-5)


def test_reference_shows_the_tasks_solution_whatever_the_rollout(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    group = group_with(attempt_at, [VerdictStatus.INCORRECT])
    (one,) = resolve(tiny, "reference").build(surroundings).feedback([group])
    assert one.context == group.problem.solution
    assert (one.advantage, one.critique) == (None, None)


def test_reference_without_a_solution_is_refused_by_name(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    attempt = attempt_at(PROBLEM, WRONG, 0)
    bare = dataclasses.replace(attempt, problem=dataclasses.replace(attempt.problem, solution=None))
    condition = resolve(tiny, "reference").build(surroundings)
    with pytest.raises(DataError, match=r"4\*6\+3-5\+7\*2 of task arithmetic has no worked"):
        condition.feedback([Group(bare.problem, (bare,))])


def test_critique_shows_the_critics_text(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    group = group_with(attempt_at, [VerdictStatus.INCORRECT])
    (one,) = resolve(tiny, "critique").build(surroundings).feedback([group])
    assert one.critique is not None
    assert one.context == one.critique.text
    assert one.context.startswith("<step_1>4*6=4</step_1><step_2>4+3=7</step_2>")
    assert (one.advantage, one.critique.first_wrong_step) == (None, 2)


def test_an_unknown_arm_and_an_unknown_key_are_refused(tiny: Suite) -> None:
    with pytest.raises(ConfigError, match=r"unknown condition 'critic'.*did you mean 'critique'"):
        resolve(tiny, "critic")
    tables = {**tiny.condition, "grpo": {"group_sise": 4}}
    with pytest.raises(ConfigError, match=r"condition.grpo.*group_sise.*did you mean 'group_size'"):
        resolve(tiny.model_copy(update={"condition": tables}), "grpo")


def test_two_arms_may_use_one_plugin(tiny: Suite) -> None:
    arm = resolve(tiny, "grpo_matched_rollouts")
    assert (arm.name, arm.plugin) == ("grpo_matched_rollouts", "grpo")
    assert arm.config.problems_per_update == 4
