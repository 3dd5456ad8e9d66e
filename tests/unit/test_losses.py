"""Each loss on vocabularies of two to four tokens, worked out by hand; gradients against autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import BaseModel, ValidationError

from sdbench.errors import ConfigError
from sdbench.losses import forward_kl, jsd, policy_gradient, reverse_kl, token_policy_gradient
from sdbench.losses.base import Loss, LossInputs

Formula = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

POLICY = (0.5, 0.25, 0.25)
TEACHER = (0.25, 0.25, 0.5)


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
    policy: torch.Tensor, ids: list[int], old: list[float] | None, advantages: list[float],
    temperature: float = 1.0,
) -> LossInputs:  # fmt: skip
    return LossInputs(
        completion_ids_N=torch.tensor(ids),
        policy_logits_NV=policy,
        sampling_logprobs_N=torch.full((len(ids),), -9.0),
        temperature=temperature,
        advantages_N=torch.tensor(advantages, dtype=torch.float64),
        old_logprobs_N=None if old is None else torch.tensor(old, dtype=torch.float64),
    )


def gradient(loss: Loss, inputs: LossInputs) -> torch.Tensor:
    """Of the sum over tokens with respect to the policy's logits, [N, V]."""
    leaf = inputs.policy_logits_NV.detach().requires_grad_()
    loss(replace(inputs, policy_logits_NV=leaf)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def values(found: torch.Tensor) -> list[float]:
    numbers: list[float] = found.tolist()
    return numbers


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
    with pytest.raises(ValidationError, match="beta"):
        jsd.Config(beta=beta)


def test_the_gradient_of_forward_kl_is_student_minus_teacher() -> None:
    """p - t = (1/2 - 1/4, 0, 1/4 - 1/2)."""
    found = gradient(
        forward_kl.build(forward_kl.Config()), distilled(logits(POLICY), logits(TEACHER))
    )
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.0, -0.25]]).double())


def test_the_gradient_of_reverse_kl_by_hand() -> None:
    """p (log p - log t - KL) with KL = 1/4 log 2 and gaps (log 2, 0, -log 2):

    log 2 times (1/2 * 3/4, 1/4 * -1/4, 1/4 * -5/4) = (6, -1, -5) / 16.
    """
    found = gradient(
        reverse_kl.build(reverse_kl.Config()), distilled(logits(POLICY), logits(TEACHER))
    )
    expected = math.log(2) / 16 * torch.tensor([[6.0, -1.0, -5.0]]).double()
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_jsd_by_hand() -> None:
    """p (log p - log M - KL(S, M)) / 2 with M = (3/8, 1/4, 3/8), gaps (log 4/3, 0, log 2/3):

    KL = 1/2 log 4/3 + 1/4 log 2/3.
    """
    up, down = math.log(4 / 3), math.log(2 / 3)
    kl = up / 2 + down / 4
    found = gradient(jsd.build(jsd.Config()), distilled(logits(POLICY), logits(TEACHER)))
    expected = torch.tensor([[(up - kl) / 4, -kl / 8, (down - kl) / 8]]).double()
    torch.testing.assert_close(found, expected)


def plain_forward(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return t * (t.log() - p.log())


def plain_reverse(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return p * (p.log() - t.log())


def plain_jsd(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    m = 0.3 * t + 0.7 * p
    return 0.3 * t * (t.log() - m.log()) + 0.7 * p * (p.log() - m.log())


def random_rows(seed: int) -> torch.Tensor:
    return torch.randn((6, 9), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DIVERGENCES: list[tuple[Callable[..., Loss], Formula]] = [
    (lambda **options: forward_kl.build(forward_kl.Config(**options)), plain_forward),
    (lambda **options: reverse_kl.build(reverse_kl.Config(**options)), plain_reverse),
    (lambda **options: jsd.build(jsd.Config(beta=0.3, **options)), plain_jsd),
]
every_divergence = pytest.mark.parametrize(
    ("build", "formula"), DIVERGENCES, ids=["forward_kl", "reverse_kl", "jsd"]
)


def check(loss: Loss, policy: torch.Tensor, teacher: torch.Tensor, plain: torch.Tensor) -> None:
    """Values and gradient against a plain formula's, which autograd has differentiated."""
    inputs = distilled(policy.detach(), teacher)
    torch.testing.assert_close(loss(inputs), plain, atol=1e-12, rtol=1e-12)
    (expected,) = torch.autograd.grad(plain.sum(), policy)
    torch.testing.assert_close(gradient(loss, inputs), expected, atol=1e-12, rtol=1e-12)
    assert expected.abs().max() > 1e-2


@every_divergence
def test_closed_form_gradients_are_those_of_autograd(
    build: Callable[..., Loss], formula: Formula
) -> None:
    policy, teacher = random_rows(1).requires_grad_(), random_rows(2)
    plain = formula(policy.softmax(-1), teacher.softmax(-1)).sum(-1)
    check(build(), policy, teacher, plain)


@every_divergence
@pytest.mark.parametrize("chosen_by", ["teacher", "student"])
@pytest.mark.parametrize("top_k", [1, 4, 8])
def test_top_k_with_a_tail_is_the_divergence_of_the_coarser_distributions(
    build: Callable[..., Loss], formula: Formula, chosen_by: str, top_k: int
) -> None:
    """Outcomes: each of the k tokens that the chosen one finds likeliest, and all others as one."""
    policy, teacher = random_rows(3).requires_grad_(), random_rows(4)
    chosen = (teacher if chosen_by == "teacher" else policy.detach()).argsort(-1, descending=True)

    def coarser(rows: torch.Tensor) -> torch.Tensor:
        ordered = rows.softmax(-1).gather(-1, chosen)
        return torch.cat([ordered[:, :top_k], ordered[:, top_k:].sum(-1, keepdim=True)], -1)

    plain = formula(coarser(policy), coarser(teacher)).sum(-1)
    check(build(top_k=top_k, top_k_of=chosen_by), policy, teacher, plain)


@every_divergence
@pytest.mark.parametrize("top_k", [9, 10, 1000])
def test_top_k_of_all_tokens_is_the_full_divergence(
    build: Callable[..., Loss], formula: Formula, top_k: int
) -> None:
    inputs = distilled(random_rows(5), random_rows(6))
    for chosen_by in ("teacher", "student"):
        loss = build(top_k=top_k, top_k_of=chosen_by)
        torch.testing.assert_close(loss(inputs), build()(inputs), atol=0, rtol=0)
        torch.testing.assert_close(
            gradient(loss, inputs), gradient(build(), inputs), atol=0, rtol=0
        )


def test_a_tail_by_hand() -> None:
    """The teacher's likeliest token is the third; tails are 1/2 of (1/4, 1/4) and 3/4 of (1/2, 1/4).

    Forward KL = 1/2 log((1/2) / (1/4)) + 1/2 log((1/2) / (3/4)) = log 2 - 1/2 log 3.
    Gradient over outcomes: student - teacher = (-1/4, 1/4); the tail's 1/4 is shared 2 : 1.
    """
    loss = forward_kl.build(forward_kl.Config(top_k=1))
    inputs = distilled(logits(POLICY), logits(TEACHER))
    assert loss(inputs).item() == pytest.approx(math.log(2) - 0.5 * math.log(3))
    torch.testing.assert_close(
        gradient(loss, inputs), torch.tensor([[1 / 6, 1 / 12, -1 / 4]]).double()
    )


def test_a_tail_far_below_the_types_precision_keeps_its_gradient() -> None:
    """In float32 1 - p_0 would be 0: the student's tail is two tokens of e^-30 and 3 e^-30.

    Teacher (1/2, 1/4, 1/4), top 1 of the student: 1/2 log(1/2) + 1/2 log((1/2) / (4 e^-30))
    = 15 - 2 log 2. Student - teacher is (1/2, -1/2); the tail's -1/2 is shared 1 : 3.
    """
    policy = torch.tensor([[0.0, -30.0, -30.0 + math.log(3)]])
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    loss = forward_kl.build(forward_kl.Config(top_k=1, top_k_of="student"))
    inputs = distilled(policy, teacher)
    assert loss(inputs).item() == pytest.approx(15 - 2 * math.log(2), abs=1e-5)
    torch.testing.assert_close(gradient(loss, inputs), torch.tensor([[0.5, -0.125, -0.375]]))


def test_the_pointwise_clip_turns_the_gradient_of_a_clipped_token_round() -> None:
    """Teacher (9/10, 1/10), student (1/2, 1/2): contributions 0.9 log 1.8 = 0.53 and 0.1 log 0.2.

    Unclipped the gradient on token 0 is p - t = -0.4: descent raises it, as the teacher would.
    With a clip at 0.05 only token 1 is active, and the gradient is P_A p - t 1(active) with
    P_A = 0.1, so (0.05, 0.05 - 0.1): descent lowers token 0. Source: 2609.38995, proposition 1.
    """
    inputs = distilled(logits((0.5, 0.5)), logits((0.9, 0.1)))
    unclipped = forward_kl.build(forward_kl.Config())
    clipped = forward_kl.build(forward_kl.Config(pointwise_clip=0.05))
    assert clipped(inputs).item() == pytest.approx(0.05 + 0.1 * math.log(0.2))
    torch.testing.assert_close(gradient(unclipped, inputs), torch.tensor([[-0.4, 0.4]]).double())
    torch.testing.assert_close(gradient(clipped, inputs), torch.tensor([[0.05, -0.05]]).double())


@every_divergence
@pytest.mark.parametrize("top_k", [None, 3])
def test_clipped_gradients_are_those_of_autograd(
    build: Callable[..., Loss], formula: Formula, top_k: int | None
) -> None:
    """The clip caps each contribution, the tail's too, before the sum."""
    policy, teacher = random_rows(7).requires_grad_(), random_rows(8)
    p, t = policy.softmax(-1), teacher.softmax(-1)
    if top_k is not None:
        order = teacher.argsort(-1, descending=True)
        p, t = (
            torch.cat([rows[:, :top_k], rows[:, top_k:].sum(-1, keepdim=True)], -1)
            for rows in (p.gather(-1, order), t.gather(-1, order))
        )
    contributions = formula(p, t)
    assert ((contributions > 0.01).any(-1) & (contributions < 0.01).any(-1)).any()
    loss = build(pointwise_clip=0.01, top_k=top_k)
    check(loss, policy, teacher, contributions.clamp(max=0.01).sum(-1))


@every_divergence
def test_a_clip_that_never_binds_changes_nothing(
    build: Callable[..., Loss], formula: Formula
) -> None:
    inputs = distilled(random_rows(9), random_rows(10))
    loss = build(pointwise_clip=100.0)
    torch.testing.assert_close(loss(inputs), build()(inputs), atol=0, rtol=0)
    torch.testing.assert_close(gradient(loss, inputs), gradient(build(), inputs), atol=0, rtol=0)


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"pointwise_clip": 0.0}, {"top_k_of": "sample"}, {"topk": 3}]
)
def test_divergences_refuse_options_out_of_range(options: dict[str, object]) -> None:
    for config in (forward_kl.Config, reverse_kl.Config, jsd.Config):
        with pytest.raises(ValidationError, match=next(iter(options))):
            config.model_validate(options)


# pi = (1/2, 1/2) for a token whose old probability was 1/4 or 1: ratio 2 or 1/2.
UP, DOWN = math.log(0.25), math.log(1.0)


@pytest.mark.parametrize(
    ("old", "advantage", "loss", "clipped"),
    [
        (UP, 3.0, -1.2 * 3.0, True),  # min(2 A, 1.2 A) for A > 0
        (UP, -3.0, 2.0 * 3.0, False),  # min(2 A, 1.2 A) for A < 0 is 2 A
        (DOWN, 3.0, -0.5 * 3.0, False),  # min(0.5 A, 0.8 A) for A > 0
        (DOWN, -3.0, 0.8 * 3.0, True),  # min(0.5 A, 0.8 A) for A < 0 is 0.8 A
    ],
)
def test_policy_gradient_clips_on_both_sides(
    old: float, advantage: float, loss: float, clipped: bool
) -> None:
    """Where the ratio has gone too far already, the loss is flat and the gradient is zero.

    Elsewhere it is -A rho grad log pi(0) with grad log pi(0) = (1 - 1/2, -1/2).
    """
    build = policy_gradient.build(policy_gradient.Config())
    inputs = rewarded(logits((0.5, 0.5)), [0], [old], [advantage])
    assert build(inputs).item() == pytest.approx(loss)
    ratio = 2.0 if old == UP else 0.5
    slope = 0.0 if clipped else -advantage * ratio * 0.5
    torch.testing.assert_close(gradient(build, inputs), torch.tensor([[slope, -slope]]).double())


def test_policy_gradient_with_unequal_bounds() -> None:
    """Ratio 2 against 1 + 0.28, ratio 1/2 against 1 - 0.1, at advantage 1 and -1."""
    loss = policy_gradient.build(policy_gradient.Config(clip_low=0.1, clip_high=0.28))
    found = loss(rewarded(logits((0.5, 0.5), (0.5, 0.5)), [0, 0], [UP, DOWN], [1.0, -1.0]))
    assert values(found) == pytest.approx([-1.28, 0.9])


def test_policy_gradient_in_the_first_pass_is_the_advantage_times_grad_log_pi() -> None:
    """A = 2, token 1 of p = (1/2, 1/4, 1/4): gradient -2 (e_1 - p), loss -2 exactly.

    The log-probability when drawn, which `rewarded` sets to -9, does not enter.
    """
    loss = policy_gradient.build(policy_gradient.Config())
    inputs = rewarded(logits(POLICY), [1], None, [2.0])
    assert loss(inputs).item() == -2.0
    torch.testing.assert_close(gradient(loss, inputs), torch.tensor([[1.0, -1.5, 0.5]]).double())


def test_the_first_pass_equals_a_later_one_from_the_same_policy() -> None:
    loss = policy_gradient.build(policy_gradient.Config())
    first = rewarded(logits(POLICY, TEACHER), [1, 2], None, [2.0, -1.0], temperature=1.5)
    later = replace(first, old_logprobs_N=first.policy_logprobs_N)
    torch.testing.assert_close(loss(later), loss(first))
    torch.testing.assert_close(gradient(loss, later), gradient(loss, first))


def test_policy_gradient_reads_the_policy_at_the_sampling_temperature() -> None:
    """p = (4/5, 1/5) at temperature 2 is (2/3, 1/3): with old probability 2/3 the ratio is 1.

    The gradient with respect to the logits is -A (e_0 - (2/3, 1/3)) / 2 = (-1/6, 1/6).
    """
    inputs = rewarded(logits((0.8, 0.2)), [0], [math.log(2 / 3)], [1.0], temperature=2.0)
    loss = policy_gradient.build(policy_gradient.Config())
    assert loss(inputs).item() == pytest.approx(-1.0)
    torch.testing.assert_close(gradient(loss, inputs), torch.tensor([[-1 / 6, 1 / 6]]).double())


def test_policy_gradients_are_those_of_autograd() -> None:
    """Ratios between 1/3 and 3 at temperature 1.7, so that the clip binds on some tokens only."""
    policy, ids = random_rows(11).requires_grad_(), torch.tensor([0, 4, 8, 2, 2, 5])
    advantages = [1.0, -2.0, 0.5, -0.3, 0.0, 1.5]
    logprobs = (policy / 1.7).log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    old = logprobs.detach() + torch.tensor([-1.1, -1.0, 0.05, 1.1, 0.3, 1.0])
    inputs = rewarded(policy.detach(), ids.tolist(), old.tolist(), advantages, temperature=1.7)
    ratios, a = (logprobs - old).exp(), torch.tensor(advantages)
    plain = -torch.minimum(ratios * a, ratios.clamp(0.8, 1.2) * a)
    (expected,) = torch.autograd.grad(plain.sum(), policy)
    loss = policy_gradient.build(policy_gradient.Config())
    torch.testing.assert_close(loss(inputs), plain.detach())
    torch.testing.assert_close(gradient(loss, inputs), expected)
    assert (expected.abs().sum(-1) == 0).tolist() == [True, False, False, True, True, False]


def test_a_ratio_that_overflows_stays_finite() -> None:
    """In float32 e^120 is infinite; a negative advantage would give NaN in the gradient."""
    policy = torch.tensor([[0.0, 0.0]])
    inputs = rewarded(policy, [0], [-120.0], [-1.0])
    loss = policy_gradient.build(policy_gradient.Config())
    assert loss(inputs).item() == pytest.approx(math.exp(20), rel=1e-6)
    found = gradient(loss, inputs)
    assert found.isfinite().all() and found[0, 0] > 0 > found[0, 1]


def taught(ids: list[int], advantages: list[float] | None = None, update: int = 1) -> LossInputs:
    rows = len(ids)
    return replace(
        distilled(logits(*[POLICY] * rows), logits(*[TEACHER] * rows)),
        completion_ids_N=torch.tensor(ids),
        advantages_N=None if advantages is None else torch.tensor(advantages),
        update=update,
    )


def test_token_advantages_by_hand() -> None:
    """log(1/4) - log(1/2) = -log 2 at token 0, 0 at token 1, +log 2 at token 2; no gradient."""
    inputs = taught([0, 1, 2])
    found = replace(
        inputs, policy_logits_NV=inputs.policy_logits_NV.requires_grad_()
    ).token_advantages_N
    assert values(found) == pytest.approx([-math.log(2), 0.0, math.log(2)])
    assert not found.requires_grad


def test_policy_logprobs_pick_the_token() -> None:
    inputs = rewarded(logits(POLICY, TEACHER), [0, 2], None, [0.0, 0.0])
    assert values(inputs.policy_logprobs_N) == pytest.approx([math.log(0.5)] * 2)


def test_token_policy_gradient_is_the_policy_gradient_with_the_teachers_advantage() -> None:
    """Ratio 1: the losses are minus A_t, the gradient -A_t (e_y - p), with no reward at hand."""
    loss = token_policy_gradient.build(token_policy_gradient.Config())
    inputs = taught([0, 1, 2])
    assert values(loss(inputs)) == pytest.approx([math.log(2), 0.0, -math.log(2)])
    expected = math.log(2) * torch.tensor([[0.5, -0.25, -0.25], [0, 0, 0], [0.5, 0.25, -0.75]])
    torch.testing.assert_close(gradient(loss, inputs), expected.double())


def test_token_policy_gradient_has_the_gradient_of_reverse_kl_on_average() -> None:
    """Over all three tokens, weighted by the policy's probabilities: what the docstring says."""
    token = token_policy_gradient.build(token_policy_gradient.Config())
    mean = torch.tensor([POLICY]).double() @ gradient(token, taught([0, 1, 2]))
    kl = reverse_kl.build(reverse_kl.Config())
    torch.testing.assert_close(mean, gradient(kl, taught([0])))


def test_token_policy_gradient_clips_by_the_blended_advantage() -> None:
    """pi = (1/2, 1/2), teacher (1/4, 3/4): A_0 = -log 2, A_1 = log 3/2. Old probability 1/4: rho = 2.

    Alone A_0 < 0 is not clipped: 2 log 2; A_1 > 0 is: -1.2 log 3/2. Blended half and half with
    A_i = 1 at token 0: A = (1 - log 2) / 2 > 0, so -1.2 A.
    """
    base = replace(
        distilled(logits((0.5, 0.5), (0.5, 0.5)), logits((0.25, 0.75), (0.25, 0.75))),
        completion_ids_N=torch.tensor([0, 1]),
        old_logprobs_N=torch.tensor([UP, UP], dtype=torch.float64),
        advantages_N=torch.tensor([1.0, 1.0]),
    )
    alone = token_policy_gradient.build(token_policy_gradient.Config())
    assert values(alone(base)) == pytest.approx([2 * math.log(2), -1.2 * math.log(1.5)])
    half = token_policy_gradient.build(token_policy_gradient.Config(teacher_weight=0.5))
    assert half(base)[0].item() == pytest.approx(-0.6 * (1 - math.log(2)))


def test_the_teachers_weight_rises_and_falls() -> None:
    """To 0.8 over 4 updates, then to 0 over 2: 0.2, 0.4, 0.6, 0.8, 0.4, 0, 0."""
    both = token_policy_gradient.Config(teacher_weight=0.8, warmup_updates=4, decay_updates=2)
    assert [both.weight(update) for update in range(1, 8)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.4, 0.0, 0.0]
    )
    fall = token_policy_gradient.Config(decay_updates=4)
    assert [fall.weight(update) for update in (1, 2, 4, 5, 9)] == [1.0, 0.75, 0.25, 0.0, 0.0]
    rise = token_policy_gradient.Config(warmup_updates=2)
    assert [rise.weight(update) for update in (1, 2, 99)] == [0.5, 1.0, 1.0]


def test_the_blend_follows_the_update() -> None:
    """Token 0, A_t = -log 2, A_i = 1, w = 1/2 in the first update and 1 in the second."""
    loss = token_policy_gradient.build(token_policy_gradient.Config(warmup_updates=2))
    assert loss(taught([0], [1.0], update=1)).item() == pytest.approx((math.log(2) - 1) / 2)
    assert loss(taught([0], [1.0], update=2)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "options", [{"teacher_weight": 0.9}, {"warmup_updates": 2}, {"decay_updates": 3}]
)
def test_a_blend_needs_a_reward_from_its_first_update_on(options: dict[str, float]) -> None:
    """Also where w is still 1, so that the lack of it does not stop a run halfway."""
    loss = token_policy_gradient.build(token_policy_gradient.Config.model_validate(options))
    with pytest.raises(ConfigError, match="needs an advantage"):
        loss(taught([0]))


@pytest.mark.parametrize("options", [{"teacher_weight": 1.1}, {"decay_updates": -1}])
def test_token_policy_gradient_refuses_options_out_of_range(options: dict[str, float]) -> None:
    config: type[BaseModel] = token_policy_gradient.Config
    with pytest.raises(ValidationError, match=next(iter(options))):
        config.model_validate(options)


def test_a_loss_without_what_it_needs_says_so() -> None:
    for needs_a_teacher in (
        forward_kl.build(forward_kl.Config(top_k=1)),
        token_policy_gradient.build(token_policy_gradient.Config()),
    ):
        with pytest.raises(ConfigError, match="needs a teacher"):
            needs_a_teacher(rewarded(logits(POLICY), [0], None, [1.0]))
    with pytest.raises(ConfigError, match="needs an advantage"):
        policy_gradient.build(policy_gradient.Config())(distilled(logits(POLICY), logits(TEACHER)))
