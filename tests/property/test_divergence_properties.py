"""Divergences: never negative, zero for equal distributions, bounded, and their limits."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from sdbench.losses import forward_kl, jsd, reverse_kl
from sdbench.losses.base import Loss, LossInputs

WIDTH = 5
ROWS = st.lists(st.floats(-8, 8), min_size=WIDTH, max_size=WIDTH)
BETAS = st.floats(0.01, 0.99)
SUPPORTS = st.fixed_dictionaries(
    {
        "top_k": st.none() | st.integers(1, WIDTH + 1),
        "top_k_of": st.sampled_from(["teacher", "student"]),
    }
)

forward = forward_kl.build(forward_kl.Config())
reverse = reverse_kl.build(reverse_kl.Config())


def every(beta: float, options: dict[str, object]) -> list[Loss]:
    return [
        forward_kl.build(forward_kl.Config.model_validate(options)),
        reverse_kl.build(reverse_kl.Config.model_validate(options)),
        jsd.build(jsd.Config.model_validate({**options, "beta": beta})),
    ]


def inputs(policy: torch.Tensor, teacher: list[float]) -> LossInputs:
    return LossInputs(
        completion_ids_N=torch.zeros(1, dtype=torch.long),
        policy_logits_NV=policy,
        sampling_logprobs_N=torch.zeros(1),
        temperature=1.0,
        teacher_logits_NV=torch.tensor([teacher], dtype=torch.float64),
    )


def value(loss: Loss, policy: list[float], teacher: list[float]) -> float:
    return float(loss(inputs(torch.tensor([policy], dtype=torch.float64), teacher)))


def slopes(loss: Loss, policy: list[float], teacher: list[float]) -> torch.Tensor:
    leaf = torch.tensor([policy], dtype=torch.float64, requires_grad=True)
    loss(inputs(leaf, teacher)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad[0]


@given(ROWS, ROWS, BETAS, SUPPORTS)
def test_no_divergence_is_negative(
    policy: list[float], teacher: list[float], beta: float, options: dict[str, object]
) -> None:
    for loss in every(beta, options):
        assert value(loss, policy, teacher) >= -1e-12


@given(ROWS, BETAS, SUPPORTS)
def test_equal_distributions_have_none_and_no_gradient(
    policy: list[float], beta: float, options: dict[str, object]
) -> None:
    shifted = [logit + 2.5 for logit in policy]
    for loss in every(beta, options):
        assert abs(value(loss, policy, shifted)) < 1e-12
        assert slopes(loss, policy, shifted).abs().max() < 1e-12


@given(ROWS, ROWS)
def test_unequal_distributions_have_some(policy: list[float], teacher: list[float]) -> None:
    """At least (sum |p - q|)^2 / 2, by Pinsker's inequality; for JSD with |p - m| = |p - q| / 2."""
    p, q = (torch.tensor(row, dtype=torch.float64).softmax(-1) for row in (policy, teacher))
    bound = float((p - q).abs().sum()) ** 2 / 2
    assert value(forward, policy, teacher) >= bound - 1e-12
    assert value(reverse, policy, teacher) >= bound - 1e-12
    assert value(jsd.build(jsd.Config()), policy, teacher) >= bound / 4 - 1e-12


@given(ROWS, ROWS, BETAS, SUPPORTS)
def test_a_coarser_support_shows_no_more_than_the_whole(
    policy: list[float], teacher: list[float], beta: float, options: dict[str, object]
) -> None:
    """The data processing inequality: merging outcomes never raises a divergence."""
    for coarse, whole in zip(every(beta, options), every(beta, {}), strict=True):
        assert value(coarse, policy, teacher) <= value(whole, policy, teacher) + 1e-12


@given(ROWS, ROWS, BETAS, SUPPORTS, st.none() | st.floats(0.001, 1))
def test_gradients_sum_to_zero(
    policy: list[float],
    teacher: list[float],
    beta: float,
    options: dict[str, object],
    clip: float | None,
) -> None:
    """Since a shift of all logits changes no loss, clipped or not."""
    for loss in every(beta, {**options, "pointwise_clip": clip}):
        assert abs(float(slopes(loss, policy, teacher).sum())) < 1e-12


@given(ROWS, ROWS, BETAS, SUPPORTS, st.floats(0.001, 1))
def test_the_clip_only_lowers(
    policy: list[float], teacher: list[float], beta: float, options: dict[str, object], clip: float
) -> None:
    """And no further than to the number of outcomes times the clip."""
    plain, clipped = every(beta, options), every(beta, {**options, "pointwise_clip": clip})
    for one, other in zip(plain, clipped, strict=True):
        found = value(other, policy, teacher)
        assert found <= value(one, policy, teacher) + 1e-12
        assert found <= WIDTH * clip + 1e-12


@given(ROWS, ROWS, st.floats(0.001, 0.2))
def test_a_clipped_token_of_forward_kl_is_pushed_away_from_the_teacher(
    policy: list[float], teacher: list[float], clip: float
) -> None:
    """For every clipped token: p - t < 0 unclipped, P_A p >= 0 clipped, where P_A is the teacher's
    mass on the tokens that are not clipped. Source: 2609.38995, proposition 1 there.
    """
    p, t = (torch.tensor(row, dtype=torch.float64).softmax(-1) for row in (policy, teacher))
    clipped = t * (t.log() - p.log()) > clip
    exact = slopes(forward, policy, teacher)
    found = slopes(forward_kl.build(forward_kl.Config(pointwise_clip=clip)), policy, teacher)
    assert (exact[clipped] < 0).all()
    torch.testing.assert_close(
        found[clipped], t[~clipped].sum() * p[clipped], atol=1e-14, rtol=1e-9
    )


@given(ROWS, ROWS)
def test_reverse_kl_is_forward_kl_with_roles_exchanged(
    policy: list[float], teacher: list[float]
) -> None:
    assert math.isclose(
        value(reverse, policy, teacher), value(forward, teacher, policy), abs_tol=1e-12
    )


@given(ROWS, ROWS)
def test_jsd_is_symmetric_and_at_most_log_two_at_one_half(
    policy: list[float], teacher: list[float]
) -> None:
    half = jsd.build(jsd.Config(beta=0.5))
    found = value(half, policy, teacher)
    assert found <= math.log(2) + 1e-12
    assert math.isclose(found, value(half, teacher, policy), abs_tol=1e-12)


@given(ROWS, ROWS, BETAS)
def test_jsd_with_roles_exchanged_has_the_other_weight(
    policy: list[float], teacher: list[float], beta: float
) -> None:
    one, other = (jsd.build(jsd.Config(beta=weight)) for weight in (beta, 1 - beta))
    assert math.isclose(value(one, policy, teacher), value(other, teacher, policy), abs_tol=1e-12)


@given(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)
def test_jsd_tends_to_both_kls(policy: list[float], teacher: list[float]) -> None:
    """The first order that is left out is about beta times the chi-square distance, below 60."""
    small = 1e-6
    near_zero = value(jsd.build(jsd.Config(beta=small)), policy, teacher) / small
    near_one = value(jsd.build(jsd.Config(beta=1 - small)), policy, teacher) / small
    assert math.isclose(near_zero, value(forward, policy, teacher), abs_tol=1e-3)
    assert math.isclose(near_one, value(reverse, policy, teacher), abs_tol=1e-3)
