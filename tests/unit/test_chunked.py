"""The output layer and the loss in chunks: the same loss and gradients as with all logits at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sdbench import plugins
from sdbench.config import Frozen
from sdbench.losses.base import Loss, LossInputs
from sdbench.train.chunked import Observed, chunked_loss, logits

TOKENS, HIDDEN, VOCABULARY = 13, 6, 29
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")


def loss_of(name: str, **options: object) -> Loss:
    module = plugins.load(plugins.Kind.LOSS, name)
    config: Frozen = module.Config(**options)
    built: Loss = module.build(config)
    return built


class Case:
    """Random hidden states and output layers of a policy and its teacher."""

    def __init__(self, dtype: torch.dtype, *, bias: bool = True) -> None:
        draw = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

        self.hidden = normal(TOKENS, HIDDEN).requires_grad_()
        self.weight = normal(VOCABULARY, HIDDEN).requires_grad_()
        self.bias = normal(VOCABULARY).requires_grad_() if bias else None
        self.taught, self.teacher_weight = normal(TOKENS, HIDDEN), normal(VOCABULARY, HIDDEN)
        self.ids = torch.randint(VOCABULARY, (TOKENS,), generator=draw)
        self.weights = torch.rand(TOKENS, generator=draw, dtype=torch.float64)

    def scoring(self, loss: Loss) -> Callable[[torch.Tensor, slice], tuple[torch.Tensor, Observed]]:
        def score(logits_nV: torch.Tensor, part: slice) -> tuple[torch.Tensor, Observed]:
            inputs = LossInputs(
                self.ids[part],
                logits_nV,
                torch.zeros(len(self.ids[part]), dtype=logits_nV.dtype),
                1.0,
                advantages_N=self.weights[part].to(logits_nV.dtype) - 0.5,
                teacher_logits_NV=logits(self.taught[part], self.teacher_weight, None),
            )
            losses = loss(inputs)
            return losses * self.weights[part].to(losses.dtype), {"id": self.ids[part]}

        return score

    def chunked(self, loss: Loss, chunk: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        total, seen = chunked_loss(
            self.hidden, self.weight, self.bias, self.scoring(loss), chunk * VOCABULARY
        )
        assert seen["id"].tolist() == self.ids.tolist()
        return total, self.gradients(total)

    def plain(self, loss: Loss) -> tuple[torch.Tensor, list[torch.Tensor]]:
        whole = logits(self.hidden, self.weight, self.bias)
        total = self.scoring(loss)(whole, slice(0, TOKENS))[0].sum()
        return total, self.gradients(total)

    def gradients(self, total: torch.Tensor) -> list[torch.Tensor]:
        leaves = [leaf for leaf in (self.hidden, self.weight, self.bias) if leaf is not None]
        return list(torch.autograd.grad(3 * total, leaves))


@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_k": 5, "top_k_of": "student"}])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_chunks_change_neither_divergence_nor_gradients(
    name: str, options: dict[str, object], chunk: int
) -> None:
    """To 1e-10 in float64: 13 tokens in chunks of 1, 4 (the last of 1) and all at once."""
    case, loss = Case(torch.float64), loss_of(name, **options)
    (found, found_gradients), (plain, plain_gradients) = case.chunked(loss, chunk), case.plain(loss)
    assert found.item() == pytest.approx(plain.item(), abs=1e-10)
    for one, other in zip(found_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", plugins.names(plugins.Kind.LOSS))
def test_every_loss_can_be_chunked(name: str) -> None:
    case, loss = Case(torch.float64), loss_of(name)
    (found, found_gradients), (plain, plain_gradients) = case.chunked(loss, 3), case.plain(loss)
    assert found.item() == pytest.approx(plain.item(), abs=1e-10)
    for one, other in zip(found_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("options", [{}, {"top_k": 5}])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_bfloat16_weights_with_sums_in_float32(name: str, options: dict[str, object]) -> None:
    """Against float64 with the same rounded weights: logits alone are rounded, to 2^-8 relative.

    Hidden states and weights of size 1 give logits of about 2.5, so errors of about 1e-2; sums over
    chunks, in float32, add nothing visible: chunks of 1 are as near as all at once.
    """
    loss = loss_of(name, **options)
    rounded = Case(torch.bfloat16, bias=False)
    exact = Case(torch.float64, bias=False)
    with torch.no_grad():
        for leaf in ("hidden", "weight", "taught", "teacher_weight"):
            getattr(exact, leaf).copy_(getattr(rounded, leaf))
    wanted, wanted_gradients = exact.plain(loss)
    for chunk in (1, 100):
        found, gradients = rounded.chunked(loss, chunk)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(wanted.item(), rel=0.03)
        for one, other in zip(gradients, wanted_gradients, strict=True):
            assert one.dtype == torch.bfloat16
            assert float((one.double() - other).norm() / other.norm()) < 0.03


def test_frozen_weights_get_no_gradient_and_no_memory_for_one() -> None:
    case, loss = Case(torch.float64), loss_of("forward_kl")
    case.weight.requires_grad_(False)
    total, _ = chunked_loss(case.hidden, case.weight, None, case.scoring(loss), VOCABULARY)
    total.backward()
    assert case.weight.grad is None
    assert case.hidden.grad is not None


def test_without_gradients_the_loss_is_the_same() -> None:
    case, loss = Case(torch.float64), loss_of("forward_kl")
    with torch.no_grad():
        found, _ = chunked_loss(case.hidden, case.weight, case.bias, case.scoring(loss), VOCABULARY)
    assert found.item() == pytest.approx(case.plain(loss)[0].item(), abs=1e-10)
    assert not found.requires_grad


def test_no_more_logits_than_allowed_are_ever_held() -> None:
    """1,000 tokens, 500 words, 5,000 logits at once: chunks of 10 tokens, never one of [N, V]."""
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            for one in made if isinstance(made, tuple | list) else [made]:
                if isinstance(one, torch.Tensor) and one.ndim == 2 and one.shape[1] == 500:
                    largest = max(largest, one.shape[0])
            return made

    hidden = torch.randn(1000, 4, requires_grad=True)
    weight, teacher = torch.randn(500, 4), torch.randn(500, 4)
    ids = torch.zeros(1000, dtype=torch.long)
    loss = loss_of("forward_kl")

    def score(logits_nV: torch.Tensor, part: slice) -> tuple[torch.Tensor, Observed]:
        taught = logits(hidden[part].detach(), teacher, None)
        zeros = torch.zeros(len(ids[part]))
        return loss(LossInputs(ids[part], logits_nV, zeros, 1.0, teacher_logits_NV=taught)), {}

    with Largest():  # type: ignore[no-untyped-call]
        total, _ = chunked_loss(hidden, weight, None, score, 5000)
        total.backward()
    assert largest == 10


def test_under_autocast_products_are_rounded_and_losses_are_not() -> None:
    """As autograd would have it for one product in bfloat16 and a loss outside of autocast."""
    case = Case(torch.float32)
    score = case.scoring(loss_of("forward_kl"))

    def outside(logits_nV: torch.Tensor, part: slice) -> tuple[torch.Tensor, Observed]:
        assert not torch.is_autocast_enabled("cpu")
        assert logits_nV.dtype == torch.float32
        return score(logits_nV, part)

    with torch.autocast("cpu", torch.bfloat16):
        chunked, _ = chunked_loss(case.hidden, case.weight, case.bias, outside, 4 * VOCABULARY)
        whole = logits(case.hidden, case.weight, case.bias)
    expected = score(whole, slice(0, TOKENS))[0].sum()
    torch.testing.assert_close(chunked, expected, atol=1e-6, rtol=1e-6)
    weights = [case.hidden, case.weight, case.bias]
    wanted = [weight for weight in weights if weight is not None]
    found = torch.autograd.grad(chunked, wanted)
    for ours, theirs in zip(found, torch.autograd.grad(expected, wanted), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
