"""Each loss on vocabularies of two and three tokens, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sdbench.errors import ConfigError
from sdbench.losses import forward_kl, jsd, policy_gradient, reverse_kl
from sdbench.losses.base import LossInputs, token_advantages, token_logprobs


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    """Logits of these probabilities, shifted, since a shift must not matter."""
    return torch.tensor(rows, dtype=torch.float64).log() + 3.0


def distilled(policy: torch.Tensor, teacher: torch.Tensor) -> LossInputs:
    return LossInputs(
        completion_ids_N=torch.zeros(len(policy), dtype=torch.long),
        policy_logits_NV=policy,
        sampling_logprobs_N=torch.zeros(len(policy), dtype=torch.float64),
        temperature=1.0,
        teacher_logits_NV=teacher,
    )


def rewarded(
    policy: torch.Tensor, ids: list[int], sampling: list[float], advantages: list[float],
    temperature: float = 1.0,
) -> LossInputs:  # fmt: skip
    return LossInputs(
        completion_ids_N=torch.tensor(ids),
        policy_logits_NV=policy,
        sampling_logprobs_N=torch.tensor(sampling, dtype=torch.float64),
        temperature=temperature,
        advantages_N=torch.tensor(advantages, dtype=torch.float64),
    )


POLICY = (0.5, 0.25, 0.25)
TEACHER = (0.25, 0.25, 0.5)


def test_forward_kl_by_hand() -> None:
    """1/4 log(1/2) + 1/4 log 1 + 1/2 log 2 = 1/4 log 2, and for two tokens:

    teacher (3/4, 1/4), student (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2) = 3/4 log 3 - log 2.
    """
    loss = forward_kl.build(forward_kl.Config())
    assert loss(distilled(logits(POLICY), logits(TEACHER))).item() == pytest.approx(math.log(2) / 4)
    assert loss(distilled(logits((0.5, 0.5)), logits((0.75, 0.25)))).item() == pytest.approx(
        0.75 * math.log(3) - math.log(2)
    )


def test_reverse_kl_by_hand() -> None:
    """1/2 log 2 + 0 + 1/4 log(1/2) = 1/4 log 2, and for two tokens:

    student (1/2, 1/2), teacher (3/4, 1/4): 1/2 log(2/3) + 1/2 log 2 = log 2 - 1/2 log 3.
    """
    loss = reverse_kl.build(reverse_kl.Config())
    assert loss(distilled(logits(POLICY), logits(TEACHER))).item() == pytest.approx(math.log(2) / 4)
    assert loss(distilled(logits((0.5, 0.5)), logits((0.75, 0.25)))).item() == pytest.approx(
        math.log(2) - 0.5 * math.log(3)
    )


def test_jsd_by_hand() -> None:
    """M = (3/8, 1/4, 3/8); KL(T, M) = 1/4 log(2/3) + 1/2 log(4/3), and KL(S, M) is the same
    with tokens 1 and 3 exchanged, so the mean of both is 1/4 log(2/3) + 1/2 log(4/3).

    With beta = 1/4 on two tokens, teacher (1, 0) nearly and student (0, 1) nearly:
    M = (1/4, 3/4), so 1/4 log 4 + 3/4 log(4/3), the entropy of a coin with bias 1/4.
    """
    half = jsd.build(jsd.Config())
    assert half(distilled(logits(POLICY), logits(TEACHER))).item() == pytest.approx(
        0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 3)
    )
    quarter = jsd.build(jsd.Config(beta=0.25))
    apart = distilled(logits((1e-30, 1.0)), logits((1.0, 1e-30)))
    assert quarter(apart).item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1])
def test_jsd_refuses_a_weight_at_or_beyond_the_ends(beta: float) -> None:
    with pytest.raises(ValueError, match="beta"):
        jsd.Config(beta=beta)


def test_the_gradient_of_forward_kl_is_student_minus_teacher() -> None:
    """d/dlogits of -sum t log softmax is p - t: (1/2 - 1/4, 0, 1/4 - 1/2)."""
    policy = logits(POLICY).requires_grad_()
    loss = forward_kl.build(forward_kl.Config())
    loss(distilled(policy, logits(TEACHER))).sum().backward()
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad, torch.tensor([[0.25, 0.0, -0.25]]).double())


# pi = (1/2, 1/2) for a token that was drawn with probability 1/4 or 1: ratio 2 or 1/2.
UP, DOWN = math.log(0.25), math.log(1.0)


@pytest.mark.parametrize(
    ("sampling", "advantage", "loss", "clipped"),
    [
        (UP, 3.0, -1.2 * 3.0, True),  # min(2 A, 1.2 A) for A > 0
        (UP, -3.0, 2.0 * 3.0, False),  # min(2 A, 1.2 A) for A < 0 is 2 A
        (DOWN, 3.0, -0.5 * 3.0, False),  # min(0.5 A, 0.8 A) for A > 0
        (DOWN, -3.0, 0.8 * 3.0, True),  # min(0.5 A, 0.8 A) for A < 0 is 0.8 A
    ],
)
def test_policy_gradient_clips_on_both_sides(
    sampling: float, advantage: float, loss: float, clipped: bool
) -> None:
    """Where the ratio has gone too far already, the loss is flat and the gradient is zero.

    Elsewhere it is -A rho grad log pi(0) with grad log pi(0) = (1 - 1/2, -1/2).
    """
    policy = logits((0.5, 0.5)).requires_grad_()
    value = policy_gradient.build(policy_gradient.Config())(
        rewarded(policy, [0], [sampling], [advantage])
    )
    value.sum().backward()
    assert value.item() == pytest.approx(loss)
    ratio = 2.0 if sampling == UP else 0.5
    slope = 0.0 if clipped else -advantage * ratio * 0.5
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad, torch.tensor([[slope, -slope]]).double())


def test_policy_gradient_with_unequal_bounds() -> None:
    """Ratio 2 against 1 + 0.28, ratio 1/2 against 1 - 0.1, at advantage 1 and -1."""
    loss = policy_gradient.build(policy_gradient.Config(clip_low=0.1, clip_high=0.28))
    values = loss(rewarded(logits((0.5, 0.5), (0.5, 0.5)), [0, 0], [UP, DOWN], [1.0, -1.0]))
    assert values.tolist() == pytest.approx([-1.28, 0.9])


def test_policy_gradient_at_ratio_one_is_the_advantage_times_grad_log_pi() -> None:
    """A = 2, token 1 of p = (1/2, 1/4, 1/4): gradient -2 (e_1 - p), loss -2."""
    policy = logits(POLICY).requires_grad_()
    value = policy_gradient.build(policy_gradient.Config())(
        rewarded(policy, [1], [math.log(0.25)], [2.0])
    )
    value.sum().backward()
    assert value.item() == pytest.approx(-2.0)
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad, torch.tensor([[1.0, -1.5, 0.5]]).double())


def test_policy_gradient_reads_the_policy_at_the_sampling_temperature() -> None:
    """p = (4/5, 1/5) at temperature 2 is (2/3, 1/3): drawn with 2/3 the ratio is 1."""
    policy = logits((0.8, 0.2))
    loss = policy_gradient.build(policy_gradient.Config())
    at_two = loss(rewarded(policy, [0], [math.log(2 / 3)], [1.0], temperature=2.0))
    assert at_two.item() == pytest.approx(-1.0)


def test_token_advantages_by_hand() -> None:
    """log(1/4) - log(1/2) = -log 2 at token 0, 0 at token 1, +log 2 at token 2; no gradient."""
    rows = 3
    policy = logits(*[POLICY] * rows).requires_grad_()
    found = token_advantages(policy, logits(*[TEACHER] * rows), torch.tensor([0, 1, 2]))
    assert found.tolist() == pytest.approx([-math.log(2), 0.0, math.log(2)])
    assert not found.requires_grad


def test_token_logprobs_pick_the_token() -> None:
    found = token_logprobs(logits(POLICY, TEACHER), torch.tensor([0, 2]))
    assert found.tolist() == pytest.approx([math.log(0.5)] * 2)


def test_a_loss_without_what_it_needs_says_so() -> None:
    with pytest.raises(ConfigError, match="needs a teacher"):
        forward_kl.build(forward_kl.Config())(rewarded(logits(POLICY), [0], [0.0], [1.0]))
    with pytest.raises(ConfigError, match="needs an advantage"):
        policy_gradient.build(policy_gradient.Config())(distilled(logits(POLICY), logits(TEACHER)))
