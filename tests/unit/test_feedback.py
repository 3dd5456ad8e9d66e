"""The three conditions by hand, and what sets them apart."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qwen3_fixture import tiny_model

from sdbench import assembly, models
from sdbench.arithmetic.expression import Expression, parse, sample
from sdbench.conditions.base import Group, Surroundings, resolve
from sdbench.config import Suite, Thinking
from sdbench.critics import oracle
from sdbench.critics.base import CriticSurroundings
from sdbench.errors import ConfigError, DataError
from sdbench.models import Model
from sdbench.records import (
    Attempt,
    Critique,
    CritiqueCase,
    Problem,
    Verdict,
    VerdictStatus,
)
from sdbench.train.batch import items

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


def overlong(surroundings: Surroundings, attempt: Attempt, by: int) -> Surroundings:
    """Surroundings whose teacher reads so many tokens less than the reference's view has."""
    assert attempt.problem.solution is not None
    view = surroundings.view("solution", attempt, attempt.problem.solution)
    assert view is not None
    return dataclasses.replace(surroundings, max_length=len(view.input_ids) - by)


def test_a_teachers_prompt_is_never_cut(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """What fits to the last token is read; one token less, and the rollout is dropped."""
    attempt = attempt_at(PROBLEM, WRONG, 0)
    group = Group(attempt.problem, (attempt,))
    told = {
        by: resolve(tiny, "reference").build(overlong(surroundings, attempt, by)).feedback([group])
        for by in (0, 1)
    }
    ((fits,), (dropped,)) = (told[0], told[1])
    assert fits.view is not None and fits.dropped is None
    assert (dropped.view, dropped.dropped) == (None, "overlong")
    assert dropped.context == attempt.problem.solution, "for whoever looks why"
    assert items([group], [dropped]) == []


def test_an_overlong_critique_is_dropped_and_its_cost_is_known(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    group = group_with(attempt_at, [VerdictStatus.INCORRECT])
    short = dataclasses.replace(surroundings, max_length=10)
    (one,) = resolve(tiny, "critique").build(short).feedback([group])
    assert (one.view, one.dropped) == (None, "overlong")
    assert one.critique is not None


class Scripted:
    """Critiques the first attempt, cannot be read on the second, and says nothing of the others."""

    identity = None

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        first, second, *_ = (attempt.rollout.id for attempt in attempts)
        yield Critique(second, "scripted", None, "I agree.", None, 7)
        yield Critique(first, "scripted", CritiqueCase.INCORRECT, "<answer>6</answer>", 2, 5)

    def close(self) -> None: ...


def test_a_rollout_without_a_critique_is_dropped_and_nothing_takes_its_place(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """The second critique cost 7 tokens although it is of no use; of the third nothing is known."""
    group = group_with(attempt_at, [VerdictStatus.INCORRECT] * 3)
    scripted = dataclasses.replace(surroundings, critic=Scripted())
    told = resolve(tiny, "critique").build(scripted).feedback([group])
    assert [one.rollout_id for one in told] == [a.rollout.id for a in group.attempts]
    assert [one.dropped for one in told] == [None, "critique", "critique"]
    assert [one.context for one in told] == ["<answer>6</answer>", None, None]
    assert [one.critique.tokens for one in told if one.critique is not None] == [5, 7]
    assert [item.id for item in items([group], told)] == [group.attempts[0].rollout.id]


def test_the_teacher_thinks_as_the_suite_says(tiny: Suite, tmp_path: Path) -> None:
    """Qwen3's turn begins with empty thoughts if it shall not think, and with none if it may."""
    model = models.open_model(str(tiny_model(tmp_path)))
    problem = Problem("p", "arithmetic", "train", "1+2", "3")
    thoughts = "<think>\n\n</think>\n\n"
    for thinking in (None, True, False):
        update = {"prompts": "steps", "thinking": Thinking(teacher=thinking, student=False)}
        found = assembly.surroundings(tiny.model_copy(update=update), model)
        text = model.decode(found.encode_teacher("solution", problem, "It is 3."))
        assert text.endswith(thoughts) == (thinking is False)
        assert found.max_length == 2048


def test_the_critic_gets_what_is_the_suites(
    tiny: Suite, organism: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[CriticSurroundings] = []
    monkeypatch.setattr(oracle, "build", lambda config, given: seen.append(given))
    update = {
        "prompts": "steps",
        "thinking": Thinking(critic=True, teacher=False),
        "model": "some/model",
        "dtype": "bfloat16",
    }
    assembly.surroundings(tiny.model_copy(update=update), organism)
    assert seen == [CriticSurroundings("steps", True, "some/model", "bfloat16", tiny.engine)]
