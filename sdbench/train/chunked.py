"""The loss of many tokens without their logits: the output layer and the loss, chunk by chunk.

The logits of a chunk of tokens are made, scored, differentiated and dropped before the next chunk's
are made. What stays are the gradients with respect to the hidden states, [N, H], and, where the
output layer is trained, with respect to its weight. They are computed in the forward pass, so
nothing is computed twice; the backward pass scales them. The result equals that of the whole
[N, V] logits up to the order of summation.

Matrix products are in the weights' type, or in that of autocast; logits, losses and sums over chunks
are in float32, or in float64 where the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

Observed = dict[str, torch.Tensor]
Score = Callable[[torch.Tensor, slice], tuple[torch.Tensor, Observed]]


def chunked_loss(
    hidden_NH: torch.Tensor,
    weight_VH: torch.Tensor,
    bias_V: torch.Tensor | None,
    score: Score,
    chunk_logits: int,
) -> tuple[torch.Tensor, Observed]:
    """The sum of all tokens' losses.

    Args:
        hidden_NH: The last hidden state at each token; gradients flow there.
        weight_VH: The output layer's weight; gradients flow there if it asks for them.
        bias_V: Its bias, or None.
        score: Gives the losses, [n], of a chunk from its logits, [n, V], and its place on the axis
            N, with anything to be observed, [n] each, which carries no gradient.
        chunk_logits: Most logits in a chunk; a chunk has one token at least.

    Returns:
        The sum, a scalar, and what was observed, [N] each.
    """
    observed: dict[str, list[torch.Tensor]] = {}

    def scored(logits_nV: torch.Tensor, part: slice) -> torch.Tensor:
        with torch.autocast(logits_nV.device.type, enabled=False):
            losses_n, seen = score(logits_nV, part)
        for name, values_n in seen.items():
            observed.setdefault(name, []).append(values_n.detach())
        return losses_n.sum()

    size = max(1, chunk_logits // weight_VH.shape[0])
    total: torch.Tensor = _ChunkedSum.apply(  # type: ignore[no-untyped-call]
        hidden_NH, weight_VH, bias_V, scored, size
    )
    return total, {name: torch.cat(parts) for name, parts in observed.items()}


def logits(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, bias_V: torch.Tensor | None
) -> torch.Tensor:
    """The output layer's logits, [N, V], in float32 or wider."""
    return _wide(functional.linear(hidden_NH, weight_VH, bias_V))


def parts(tokens: int, size: int) -> Iterator[slice]:
    """Chunks of an axis."""
    for start in range(0, tokens, size):
        yield slice(start, min(start + size, tokens))


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        scored: Callable[[torch.Tensor, slice], torch.Tensor],
        size: int,
    ) -> torch.Tensor:
        for_hidden, for_weight, for_bias, _, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        wide = torch.promote_types(hidden_NH.dtype, torch.float32)
        total = hidden_NH.new_zeros((), dtype=wide)
        hidden_gradient_NH = torch.zeros_like(hidden_NH) if for_hidden else None
        weight_gradient_VH = torch.zeros_like(weight_VH, dtype=wide) if for_weight else None
        bias_gradient_V = torch.zeros_like(weight_VH[:, 0], dtype=wide) if for_bias else None
        for part in parts(len(hidden_NH), size):
            logits_nV = logits(hidden_NH[part], weight_VH, bias_V)
            if not (for_hidden or for_weight or for_bias):
                total += scored(logits_nV, part)
                continue
            with torch.enable_grad():
                logits_nV.requires_grad_()
                loss = scored(logits_nV, part)
                (gradient_nV,) = torch.autograd.grad(loss, logits_nV)
            total += loss.detach()
            del logits_nV
            if bias_gradient_V is not None:
                bias_gradient_V += gradient_nV.sum(0)
            gradient_nV = gradient_nV.to(weight_VH.dtype)
            if hidden_gradient_NH is not None:
                hidden_gradient_NH[part] = gradient_nV @ weight_VH
            if weight_gradient_VH is not None:
                _add_product(weight_gradient_VH, gradient_nV, hidden_NH[part])
            del gradient_nV
        ctx.gradients = (hidden_gradient_NH, weight_gradient_VH, bias_gradient_V)  # type: ignore[attr-defined]
        ctx.dtype = weight_VH.dtype  # type: ignore[attr-defined]
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *upstream: torch.Tensor) -> object:
        hidden_NH, weight_VH, bias_V = ctx.gradients  # type: ignore[attr-defined]
        scale = upstream[0]
        return (
            None if hidden_NH is None else hidden_NH.mul_(scale),
            None if weight_VH is None else weight_VH.mul_(scale).to(ctx.dtype),  # type: ignore[attr-defined]
            None if bias_V is None else bias_V.mul_(scale).to(ctx.dtype),  # type: ignore[attr-defined]
            None,
            None,
        )


def _add_product(sum_VH: torch.Tensor, gradient_nV: torch.Tensor, hidden_nH: torch.Tensor) -> None:
    """Adds gradient^T hidden, without a second [V, H] where the types agree."""
    # What works in place is not cast: under autocast it would be the one product in float32.
    cast_down = torch.is_autocast_enabled(sum_VH.device.type)
    if not cast_down and sum_VH.dtype == gradient_nV.dtype == hidden_nH.dtype:
        sum_VH.addmm_(gradient_nV.T, hidden_nH)
    else:
        sum_VH += gradient_nV.T @ hidden_nH.to(gradient_nV.dtype)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
