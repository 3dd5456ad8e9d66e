"""Published variants of GRPO go by name; what stands beside the name wins."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sdbench import assembly
from sdbench.arithmetic.expression import Expression, sample
from sdbench.conditions import blend, grpo
from sdbench.conditions.base import Group, Surroundings, resolve
from sdbench.config import Suite
from sdbench.errors import ConfigError
from sdbench.records import Attempt, Feedback, TeacherView
from sdbench.train.health import rollout_metrics

MakeAttempt = Callable[[Expression, str, int], Attempt]


def config(tiny: Suite, **table: object) -> grpo.Config:
    found = resolve(tiny.model_copy(update={"condition": {"grpo": table}}), "grpo").config
    assert isinstance(found, grpo.Config)
    return found


@pytest.mark.parametrize(
    ("variant", "normalisation", "divides", "clip"),
    [
        ("grpo", "sequence", True, {}),
        ("dr_grpo", "constant", False, {}),
        ("dapo", "token", True, {"clip_low": 0.2, "clip_high": 0.28}),
    ],
)
def test_a_name_stands_for_what_was_published(
    tiny: Suite, variant: str, normalisation: str, divides: bool, clip: dict[str, float]
) -> None:
    found = config(tiny, variant=variant)
    assert (found.normalisation, found.divide_by_deviation) == (normalisation, divides)
    assert found.loss_options == clip


def test_without_a_name_the_suite_decides(tiny: Suite) -> None:
    found = config(tiny)
    assert (found.normalisation, found.divide_by_deviation, found.loss_options) == (None, True, {})


def test_a_key_beside_the_name_wins(tiny: Suite) -> None:
    found = config(tiny, variant="dr_grpo", normalisation="token", divide_by_deviation=True)
    assert (found.normalisation, found.divide_by_deviation) == ("token", True)
    found = config(tiny, variant="dapo", loss_options={"clip_low": 0.1})
    assert found.loss_options == {"clip_low": 0.1, "clip_high": 0.28}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"variant": "gspo"}, "variant = 'gspo'"),
        ({"variant": "dapo", "loss_options": 3}, "loss_options = 3"),
    ],
)
def test_what_cannot_be_is_refused(tiny: Suite, table: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[condition.grpo\].*{fault}"):
        config(tiny, **table)


def test_an_arms_options_lie_over_the_suites(tiny: Suite) -> None:
    """The suite clips at .2; an option that the loss does not have is refused by name."""
    arm = resolve(
        tiny.model_copy(update={"condition": {"grpo": {"loss_options": {"clip": 1}}}}), "grpo"
    )
    with pytest.raises(ConfigError, match=r"loss.policy_gradient.*'clip'.*did you mean"):
        assembly.loss(tiny, arm)


@pytest.fixture
def groups(attempt_at: MakeAttempt) -> list[Group]:
    """One right of four; two right of two, which is flat."""
    rng = random.Random(4)
    made = []
    for right in ([1, 0, 0, 0], [1, 1]):
        problem = sample(rng)
        texts = [f"<answer>{problem.value if one else 'x'}</answer>" for one in right]
        attempts = tuple(attempt_at(problem, text, n) for n, text in enumerate(texts))
        made.append(Group(attempts[0].problem, attempts))
    return made


def test_advantages_by_hand(groups: list[Group]) -> None:
    """Rewards 1, 0, 0, 0: centred 3/4 and -1/4; their deviation is sqrt(3)/4."""
    centred = grpo.advantages(groups[0], divide=False)
    assert centred == pytest.approx([0.75, -0.25, -0.25, -0.25])
    divided = grpo.advantages(groups[0], divide=True)
    assert divided == pytest.approx([3**0.5] + [-(3**-0.5)] * 3, abs=1e-5)
    for divide in (True, False):
        assert grpo.advantages(groups[1], divide=divide) == [0, 0]


def test_flat_groups_are_counted(groups: list[Group]) -> None:
    """One of both."""
    assert rollout_metrics(groups)["rollout/flat_groups"] == 0.5


@pytest.mark.parametrize("teacher", ["critique", "reference"])
def test_a_blend_has_both(
    tiny: Suite, surroundings: Surroundings, groups: list[Group], teacher: str
) -> None:
    """The advantage that `grpo` gives and the view that the other condition gives, joined by id."""
    table = {"condition": {"blend": {"teacher": teacher}}}
    arm = resolve(tiny.model_copy(update=table), "blend")
    assert arm.config.teaches and arm.config.compares
    told = {one.rollout_id: one for one in arm.build(surroundings).feedback(groups)}
    alone = resolve(tiny, teacher).build(surroundings).feedback(groups)
    rewarded = resolve(tiny, "grpo").build(surroundings).feedback(groups)
    assert set(told) == {one.rollout_id for one in alone} == {one.rollout_id for one in rewarded}
    for taught, reward in zip(alone, rewarded, strict=True):
        one = told[taught.rollout_id]
        assert (one.view, one.context, one.critique) == (
            taught.view,
            taught.context,
            taught.critique,
        )
        assert taught.rollout_id == reward.rollout_id and one.advantage == reward.advantage


def test_a_blend_is_half_and_half_unless_it_is_told(tiny: Suite) -> None:
    """Another option of the loss leaves the weight; another loss has no such weight."""

    def options(**table: object) -> dict[str, object]:
        arms = {"condition": {"blend": table}}
        return resolve(tiny.model_copy(update=arms), "blend").config.loss_options

    assert options() == {"teacher_weight": 0.5}
    assert options(loss_options={"clip_high": 0.3}) == {"teacher_weight": 0.5, "clip_high": 0.3}
    assert options(loss_options={"teacher_weight": 0.9}) == {"teacher_weight": 0.9}
    assert options(loss="policy_gradient") == {}


def test_dropped_feedback_stays_dropped(groups: list[Group]) -> None:
    """A rollout without a view is not trained on by its reward alone, which would be another loss."""
    ids = [a.rollout.id for group in groups for a in group.attempts]

    class Half:
        def feedback(self, groups: object) -> list[Feedback]:
            view = TeacherView((0, 1), (1,))
            return [
                Feedback(name, view=view) if n % 2 else Feedback(name, dropped="critique")
                for n, name in enumerate(ids)
            ]

    told = blend.Blend(Half(), divide=True).feedback(groups)
    assert [one.advantage is None for one in told] == [n % 2 == 0 for n in range(6)]
    assert [one.dropped for one in told] == ["critique", None] * 3
