"""The pull back to the initial policy: by hand, by finite differences, zero where nothing moved."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdbench.losses.base import LossInputs
from sdbench.train.anchor import anchor_loss


def pull(
    logits_NV: torch.Tensor, ids: list[int], initial_NV: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    ids_N = torch.tensor(ids)
    inputs = LossInputs(ids_N, logits_NV, torch.zeros(len(ids)), temperature)
    return anchor_loss(inputs, initial_NV)


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Logits of these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def test_the_estimate_by_hand() -> None:
    """Probabilities 1/4 and 3/4; the initial policy gave token 0 one half, so d = log 2.

    k3 = 2 - log 2 - 1 = .307; at token 1, where it gave 3/4 too, nothing.
    """
    policy, initial = logits_of([1 / 4, 3 / 4]), logits_of([1 / 2, 1 / 2], [1 / 4, 3 / 4])
    found = pull(policy.expand(2, 2), [0, 1], initial)
    assert found.tolist() == pytest.approx([1 - math.log(2), 0])


def test_the_gradient_by_hand() -> None:
    """(1 - e^d) grad log pi: at d = log 2 minus grad log pi(y) = -(3/4, -3/4)."""
    logits = logits_of([1 / 4, 3 / 4]).requires_grad_()
    pull(logits, [0], logits_of([1 / 2, 1 / 2])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [pytest.approx([-0.75, 0.75])]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_the_gradient_is_that_of_finite_differences(temperature: float) -> None:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 7, generator=draw, dtype=torch.float64)
    initial = torch.randn(5, 7, generator=draw, dtype=torch.float64)
    ids = [0, 3, 6, 3, 1]
    logits.requires_grad_()
    weights = torch.rand(5, generator=draw, dtype=torch.float64)
    (pull(logits, ids, initial, temperature) * weights).sum().backward()
    expected = torch.zeros_like(logits)
    step = 1e-6
    with torch.no_grad():
        for row in range(5):
            for column in range(7):
                values = []
                for sign in (1, -1):
                    moved = logits.clone()
                    moved[row, column] += sign * step
                    values.append((pull(moved, ids, initial, temperature) * weights).sum())
                expected[row, column] = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(logits.grad, expected, atol=1e-8, rtol=1e-6)


@given(st.floats(-8, 8), st.floats(-8, 8))
def test_it_is_never_negative_and_zero_where_nothing_moved(now: float, before: float) -> None:
    logits = torch.tensor([[now, 0.0]], dtype=torch.float64, requires_grad=True)
    initial = torch.tensor([[before, 0.0]], dtype=torch.float64)
    assert pull(logits, [0], initial).item() >= 0
    still = pull(logits, [0], logits.detach())
    still.sum().backward()
    assert logits.grad is not None
    assert still.item() == 0 and not logits.grad.any()


def test_its_mean_over_samples_is_the_divergence() -> None:
    """Each token weighted by its probability: sum p k3 = KL(p || initial) when both sum to 1."""
    draw = torch.Generator().manual_seed(2)
    policy, initial = torch.randn(2, 1, 9, generator=draw, dtype=torch.float64)
    logprobs, anchors = policy.log_softmax(-1)[0], initial.log_softmax(-1)[0]
    estimates = pull(policy.expand(9, 9), list(range(9)), initial.expand(9, 9))
    divergence = (logprobs.exp() * (logprobs - anchors)).sum()
    torch.testing.assert_close((logprobs.exp() * estimates).sum(), divergence)
