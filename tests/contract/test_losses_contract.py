"""What every loss must keep to: run over all that `plugins.names` finds, in float64 and float32.

A loss with options of a known name is also run with them set, so that no path is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench import plugins
from sdbench.config import Suite, validate
from sdbench.losses._divergence import DivergenceConfig
from sdbench.losses.base import Loss, LossInputs
from sdbench.plugins import Kind

LOSSES = plugins.names(Kind.LOSS)
TOKENS, VOCABULARY = 7, 6
OPTIONS: list[dict[str, object]] = [
    {},
    {"top_k": 2},
    {"top_k": 3, "top_k_of": "student"},
    {"pointwise_clip": 0.02},
    {"top_k": 2, "pointwise_clip": 0.02},
    {"teacher_weight": 0.6},
]
DOUBLE_AND_SINGLE = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@dataclass(frozen=True)
class Case:
    """A loss with options."""

    name: str
    options: dict[str, object]

    @property
    def config(self) -> type[object]:
        return cast("type[object]", plugins.load(Kind.LOSS, self.name).Config)

    def build(self) -> Loss:
        module = plugins.load(Kind.LOSS, self.name)
        return cast(Loss, module.build(module.Config(**self.options)))

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


CASES = [
    Case(name, options)
    for name in LOSSES
    for options in OPTIONS
    if options.keys() <= plugins.load(Kind.LOSS, name).Config.model_fields.keys()
]
DIVERGENCES = [case for case in CASES if issubclass(case.config, DivergenceConfig)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def inputs(
    seed: int,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    vocabulary: int = VOCABULARY,
    drift: float = 0.05,
) -> LossInputs:
    """Random inputs with an advantage and a teacher both, so that any loss finds what it needs.

    The policy has drifted from the one before the first pass, but the clip binds nowhere.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    logits = scale * normal(TOKENS, vocabulary)
    ids = torch.randint(vocabulary, (TOKENS,), generator=generator)
    old = ((logits + drift * scale * normal(TOKENS, vocabulary)) / 1.3).log_softmax(-1)
    old_logprobs = old.gather(-1, ids[:, None])[:, 0].to(dtype)
    return LossInputs(
        completion_ids_N=ids,
        policy_logits_NV=logits.to(dtype),
        sampling_logprobs_N=old_logprobs - 0.1,
        temperature=1.3,
        advantages_N=normal(TOKENS).to(dtype),
        teacher_logits_NV=(scale * normal(TOKENS, vocabulary)).to(dtype),
        old_logprobs_N=old_logprobs,
    )


def at(whole: LossInputs, rows: list[int]) -> LossInputs:
    """These tokens alone, in this order."""
    tensors = {
        field.name: getattr(whole, field.name)[rows]
        for field in fields(whole)
        if isinstance(getattr(whole, field.name), torch.Tensor)
    }
    assert len(tensors) == 6
    return replace(whole, **tensors)


def gradient(loss: Loss, whole: LossInputs) -> torch.Tensor:
    leaf = whole.policy_logits_NV.detach().requires_grad_()
    loss(replace(whole, policy_logits_NV=leaf)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@every_case
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_that_of_finite_differences(case: Case, seed: int) -> None:
    """Of each token's loss with respect to all logits, those of other tokens included.

    The teacher's advantage is part of the objective that a policy gradient holds fixed.
    """
    loss, whole = case.build(), inputs(seed)

    def losses(logits: torch.Tensor) -> torch.Tensor:
        moved = replace(whole, policy_logits_NV=logits)
        moved.__dict__["token_advantages_N"] = whole.token_advantages_N
        return loss(moved)

    logits = whole.policy_logits_NV.clone().requires_grad_()
    assert torch.autograd.gradcheck(losses, (logits,), eps=1e-6, atol=1e-8, rtol=1e-5)
    assert gradient(loss, whole).abs().max() > 1e-3


@every_case
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_chunks_add_up_to_the_whole(case: Case, size: int) -> None:
    loss, whole = case.build(), inputs(2)
    chunks = [
        at(whole, list(range(start, min(start + size, TOKENS)))) for start in range(0, TOKENS, size)
    ]
    values = torch.cat([loss(chunk) for chunk in chunks])
    slopes = torch.cat([gradient(loss, chunk) for chunk in chunks])
    torch.testing.assert_close(values, loss(whole), atol=1e-10, rtol=0)
    torch.testing.assert_close(slopes, gradient(loss, whole), atol=1e-10, rtol=0)


@every_case
@given(order=st.permutations(range(TOKENS)), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_the_order_of_tokens_changes_no_loss(case: Case, order: list[int], seed: int) -> None:
    loss, whole = case.build(), inputs(seed)
    moved, values = at(whole, order), loss(whole)
    assert values.shape == (TOKENS,)
    torch.testing.assert_close(loss(moved), values[order], atol=1e-14, rtol=1e-14)
    torch.testing.assert_close(
        gradient(loss, moved), gradient(loss, whole)[order], atol=1e-14, rtol=1e-14
    )


@every_case
def test_a_shift_of_the_logits_changes_no_loss(case: Case) -> None:
    loss, whole = case.build(), inputs(3)
    shifted = replace(whole, policy_logits_NV=whole.policy_logits_NV + 7.0)
    torch.testing.assert_close(loss(shifted), loss(whole), atol=1e-12, rtol=1e-10)


@every_case
def test_the_inputs_stay_as_they_were(case: Case) -> None:
    """What is cached included, since training reads it after the loss."""
    one, same = inputs(4), inputs(4)
    gradient(case.build(), one)
    case.build()(one)
    for field in fields(LossInputs):
        torch.testing.assert_close(
            getattr(one, field.name), getattr(same, field.name), atol=0, rtol=0
        )
    for role in ("policy", "tempered_policy", "teacher"):
        for kind in ("logprobs_NV", "probs_NV", "negative_entropy_N"):
            found, expected = (getattr(getattr(it, role), kind) for it in (one, same))
            torch.testing.assert_close(found, expected, atol=0, rtol=0)


@every_case
@DOUBLE_AND_SINGLE
@pytest.mark.parametrize("scale", [1e-8, 30.0, 1e4, 1e6])
def test_extreme_logits_give_finite_losses_and_gradients(
    case: Case, dtype: torch.dtype, scale: float
) -> None:
    """At 1e4 all probabilities are 0 or 1 in either type, and a drifted ratio overflows."""
    loss, whole = case.build(), inputs(4, dtype, scale)
    values, slopes = loss(whole), gradient(loss, whole)
    assert values.isfinite().all() and slopes.isfinite().all()
    assert values.dtype == slopes.dtype == dtype


@every_case
def test_single_precision_is_near_double(case: Case) -> None:
    """At the vocabulary of a small language model, with logits as spread as there."""
    loss = case.build()
    double = inputs(6, torch.float64, 3.0, vocabulary=5000, drift=0.02)
    single = inputs(6, torch.float32, 3.0, vocabulary=5000, drift=0.02)
    torch.testing.assert_close(loss(single).double(), loss(double), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        gradient(loss, single).double(), gradient(loss, double), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@DOUBLE_AND_SINGLE
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_a_divergence_is_not_negative_and_zero_for_equal_distributions(
    case: Case, dtype: torch.dtype, scale: float
) -> None:
    """A clipped sum is no divergence: it may be negative, but is zero for equals all the same."""
    tolerance = 1e-12 if dtype is torch.float64 else 1e-6
    loss, whole = case.build(), inputs(7, dtype, scale)
    equal = replace(whole, teacher_logits_NV=whole.policy_logits_NV + 1.5)
    assert loss(equal).abs().max() < tolerance * scale
    assert gradient(loss, equal).abs().max() < tolerance * scale
    if "pointwise_clip" not in case.options:
        assert (loss(whole) > 1e-4).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_options_in_the_shipped_suite_are_the_losss_own(name: str, tiny: Suite) -> None:
    module = plugins.load(Kind.LOSS, name)
    validate(module.Config, tiny.loss.get(name, {}), f"[loss.{name}]")
    assert set(tiny.loss) <= set(LOSSES)
    assert plugins.summary(Kind.LOSS, name)
