"""What every loss must keep to: run over all that `plugins.names` finds, in float64."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench import plugins
from sdbench.config import Suite, validate
from sdbench.losses.base import Loss, LossInputs
from sdbench.plugins import Kind

LOSSES = plugins.names(Kind.LOSS)
TOKENS, VOCABULARY = 4, 5
STEP = 1e-6


def build(name: str) -> Loss:
    module = plugins.load(Kind.LOSS, name)
    return cast(Loss, module.build(module.Config()))


def inputs(seed: int, policy_logits_NV: torch.Tensor | None = None) -> LossInputs:
    """Random inputs with an advantage and a teacher both, so that any loss finds what it needs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    drawn = normal(TOKENS, VOCABULARY)
    ids = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    old = (drawn + 0.05 * normal(TOKENS, VOCABULARY)).log_softmax(-1)
    return LossInputs(
        completion_ids_N=ids,
        policy_logits_NV=drawn if policy_logits_NV is None else policy_logits_NV,
        sampling_logprobs_N=old.gather(-1, ids[:, None])[:, 0],
        temperature=1.0,
        advantages_N=normal(TOKENS),
        teacher_logits_NV=normal(TOKENS, VOCABULARY),
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_that_of_finite_differences(name: str, seed: int) -> None:
    """Central differences with step 1e-6 in float64: error about 1e-10, far below 1e-7."""
    loss = build(name)
    logits = inputs(seed).policy_logits_NV.clone().requires_grad_()
    loss(inputs(seed, logits)).sum().backward()
    assert logits.grad is not None
    numeric = torch.zeros_like(logits)
    for row in range(TOKENS):
        for column in range(VOCABULARY):
            shift = torch.zeros_like(logits)
            shift[row, column] = STEP
            above = loss(inputs(seed, logits.detach() + shift)).sum()
            below = loss(inputs(seed, logits.detach() - shift)).sum()
            numeric[row, column] = (above - below) / (2 * STEP)
    torch.testing.assert_close(logits.grad, numeric, atol=1e-7, rtol=1e-5)
    assert logits.grad.abs().max() > 1e-3


@pytest.mark.parametrize("name", LOSSES)
@given(order=st.permutations(range(TOKENS)), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_order_of_tokens_changes_no_loss(name: str, order: list[int], seed: int) -> None:
    """One loss a token, and each depends on its own row alone."""
    loss = build(name)
    whole = inputs(seed)
    assert whole.advantages_N is not None and whole.teacher_logits_NV is not None
    moved = LossInputs(
        completion_ids_N=whole.completion_ids_N[order],
        policy_logits_NV=whole.policy_logits_NV[order],
        sampling_logprobs_N=whole.sampling_logprobs_N[order],
        temperature=1.0,
        advantages_N=whole.advantages_N[order],
        teacher_logits_NV=whole.teacher_logits_NV[order],
    )
    values = loss(whole)
    assert values.shape == (TOKENS,)
    torch.testing.assert_close(loss(moved), values[order], atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_a_shift_of_the_logits_changes_no_loss(name: str) -> None:
    loss = build(name)
    whole = inputs(3)
    shifted = inputs(3, whole.policy_logits_NV + 7.0)
    torch.testing.assert_close(loss(shifted), loss(whole), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_the_inputs_stay_as_they_were(name: str) -> None:
    one, same = inputs(4), inputs(4)
    build(name)(one)
    torch.testing.assert_close(one.policy_logits_NV, same.policy_logits_NV, atol=0, rtol=0)
    assert one.teacher_logits_NV is not None and same.teacher_logits_NV is not None
    torch.testing.assert_close(one.teacher_logits_NV, same.teacher_logits_NV, atol=0, rtol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_options_in_the_shipped_suite_are_the_losss_own(name: str, tiny: Suite) -> None:
    module = plugins.load(Kind.LOSS, name)
    validate(module.Config, tiny.loss.get(name, {}), f"[loss.{name}]")
    assert set(tiny.loss) <= set(LOSSES)
    assert plugins.summary(Kind.LOSS, name)
