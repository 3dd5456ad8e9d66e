"""Divergences: never negative, zero for equal distributions, bounded, and their limits."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from sdbench.losses import forward_kl, jsd, reverse_kl
from sdbench.losses.base import Loss, LossInputs

ROWS = st.lists(st.floats(-8, 8), min_size=3, max_size=3)
BETAS = st.floats(0.01, 0.99)

forward = forward_kl.build(forward_kl.Config())
reverse = reverse_kl.build(reverse_kl.Config())


def value(loss: Loss, policy: list[float], teacher: list[float]) -> float:
    inputs = LossInputs(
        completion_ids_N=torch.zeros(1, dtype=torch.long),
        policy_logits_NV=torch.tensor([policy], dtype=torch.float64),
        sampling_logprobs_N=torch.zeros(1),
        temperature=1.0,
        teacher_logits_NV=torch.tensor([teacher], dtype=torch.float64),
    )
    return float(loss(inputs))


@given(ROWS, ROWS, BETAS)
def test_no_divergence_is_negative(policy: list[float], teacher: list[float], beta: float) -> None:
    for loss in (forward, reverse, jsd.build(jsd.Config(beta=beta))):
        assert value(loss, policy, teacher) >= -1e-12


@given(ROWS, BETAS)
def test_equal_distributions_have_none(policy: list[float], beta: float) -> None:
    shifted = [logit + 2.5 for logit in policy]
    for loss in (forward, reverse, jsd.build(jsd.Config(beta=beta))):
        assert abs(value(loss, policy, shifted)) < 1e-12


@given(ROWS, ROWS)
def test_unequal_distributions_have_some(policy: list[float], teacher: list[float]) -> None:
    """At least (sum |p - q|)^2 / 2, by Pinsker's inequality; for JSD with |p - m| = |p - q| / 2."""
    p, q = (torch.tensor(row, dtype=torch.float64).softmax(-1) for row in (policy, teacher))
    bound = float((p - q).abs().sum()) ** 2 / 2
    assert value(forward, policy, teacher) >= bound - 1e-12
    assert value(reverse, policy, teacher) >= bound - 1e-12
    assert value(jsd.build(jsd.Config()), policy, teacher) >= bound / 4 - 1e-12


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
