"""Batched sampling in this process with transformers: the engine for small models and for CPU.

Prompts are left-padded and read once however many samples they get; the key-value cache grows in
place; rows that have ended leave the batch. Tokens are drawn by inverse transform from uniforms that
belong to (seed, request, index).

A model under training is sampled as it stands, adapter included: there is one copy of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from sdbench.engines.base import EngineConfig, Request, Sampling, refuse_overlong, uniforms
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

if TYPE_CHECKING:
    from peft import PeftModel

COMPACT_BELOW = 0.8


class Config(EngineConfig):
    """Options.

    Attributes:
        batch_rows: Most completions under way at once.
    """

    effort: ClassVar[frozenset[str]] = frozenset({"batch_rows"})

    batch_rows: Annotated[int, Field(gt=0)] = 256


def build(config: Config, model: Model) -> HFEngine:
    """The engine for a loaded model."""
    return HFEngine(config, model)


class HFEngine:
    """See the module."""

    def __init__(self, config: Config, model: Model) -> None:
        self._config = config
        self.switch(model)

    @property
    def model(self) -> Model:
        """The model, shared with whoever trains it."""
        return self._model

    @property
    def max_length(self) -> int:
        """The model's."""
        return self._model.max_length

    def switch(self, model: Model) -> None:
        """Samples another model; its weights are read here."""
        self._model = model
        _ = model.network

    @property
    def shares_weights(self) -> bool:
        """Yes: what an optimiser changes is sampled at once."""
        return True

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        """Nothing is copied; a network that is not the model's own takes its place."""
        if network is not self._model.network:
            self._model = self._model.around(cast(PreTrainedModel, network))

    def close(self) -> None:
        """Nothing is held but the model."""

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Draws every wanted sample; see `engines.base.Engine.stream`."""
        refuse_overlong(requests, sampling, self.max_length)
        network = self._model.network
        was_training = network.training
        network.eval()
        try:
            for rows in self._batches(requests):
                yield from self._draw(rows, sampling)
        finally:
            network.train(was_training)

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[_Row]]:
        """Rows in order of prompt length, so that padding is rare."""
        rows: list[_Row] = []
        ordered = sorted(requests, key=lambda request: len(request.prompt_ids))
        for request in ordered:
            for index in request.indices:
                if len(rows) == self._config.batch_rows:
                    yield rows
                    rows = []
                rows.append(_Row(request, index))
        if rows:
            yield rows

    @torch.no_grad()
    def _draw(self, rows: Sequence[_Row], sampling: Sampling) -> Iterator[Completion]:
        network = self._model.network
        state = _prefill(network, rows)
        draws_BT = torch.from_numpy(
            np.stack([uniforms(sampling, row.request.id, row.index) for row in rows])
        ).to(network.device)
        ends = torch.tensor(self._model.end_ids, device=network.device)
        shape = (len(rows), sampling.max_tokens)
        tokens_BT = torch.zeros(shape, dtype=torch.long, device=network.device)
        logprobs_BT = torch.zeros(shape, device=network.device)
        # `active` maps rows still in the batch to rows of the output; ended ones linger as padding.
        active = torch.arange(len(rows), device=network.device)
        running = torch.ones(len(rows), dtype=torch.bool, device=network.device)
        for step in range(sampling.max_tokens):
            token_B, logprob_B = _pick(
                state.logits_BV, draws_BT[active, step], sampling.temperature
            )
            tokens_BT[active, step] = token_B
            logprobs_BT[active, step] = logprob_B
            last = step + 1 == sampling.max_tokens
            stopped = running[active] & torch.isin(token_B, ends)
            ended = active[running[active] if last else stopped]
            if len(ended):
                running[ended] = False
                yield from self._completions(
                    rows, ended, tokens_BT[:, : step + 1], logprobs_BT[:, : step + 1]
                )
            left = running[active]
            if not left.any():
                break
            if left.sum() < COMPACT_BELOW * len(active):
                keep = left.nonzero()[:, 0]
                state.select(keep)
                active, token_B = active[keep], token_B[keep]
            state.advance(network, token_B)

    def _completions(
        self,
        rows: Sequence[_Row],
        ended: torch.Tensor,
        tokens_BT: torch.Tensor,
        logprobs_BT: torch.Tensor,
    ) -> Iterator[Completion]:
        """Completions of the rows that have ended at this length."""
        ends = set(self._model.end_ids)
        for row, ids, logprobs in zip(
            ended.tolist(), tokens_BT[ended].tolist(), logprobs_BT[ended].tolist(), strict=True
        ):
            stopped = ids[-1] in ends
            yield Completion(
                request_id=rows[row].request.id,
                index=rows[row].index,
                tokens=len(ids),
                token_ids=tuple(ids),
                logprobs=tuple(logprobs),
                text=self._model.decode(ids[:-1] if stopped else ids),
                finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            )


@dataclass(frozen=True, slots=True)
class _Row:
    request: Request
    index: int


class _State:
    """Cache, mask and next-token logits of the rows in the batch."""

    def __init__(
        self,
        cache: DynamicCache,
        logits_BV: torch.Tensor,
        mask_BS: torch.Tensor | None,
        positions_B: torch.Tensor,
    ) -> None:
        self.cache = cache
        self.logits_BV = logits_BV
        self.mask_BS = mask_BS
        self.positions_B = positions_B

    def select(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.logits_BV = self.logits_BV[rows]
        self.positions_B = self.positions_B[rows]
        if self.mask_BS is not None:
            self.mask_BS = self.mask_BS[rows]

    def advance(self, network: PreTrainedModel, token_B: torch.Tensor) -> None:
        if self.mask_BS is not None:
            self.mask_BS = torch.cat([self.mask_BS, self.mask_BS.new_ones((len(token_B), 1))], 1)
        output = network(
            input_ids=token_B[:, None],
            attention_mask=self.mask_BS,
            position_ids=self.positions_B[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.positions_B = self.positions_B + 1
        self.logits_BV = output.logits[:, -1]


class _GrowingLayer(DynamicLayer):
    """A cache layer that writes into spare room instead of copying itself at every token."""

    ROOM = 64

    def update(  # type: ignore[no-untyped-def]  # the base class's signature is open
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_store, self._value_store = key_states[..., :0, :], value_states[..., :0, :]
        before = self.get_seq_length()
        self._key_store = self._append(self._key_store, key_states, before)
        self._value_store = self._append(self._value_store, value_states, before)
        after = before + key_states.shape[-2]
        keys, values = self._key_store[..., :after, :], self._value_store[..., :after, :]
        self.keys, self.values = keys, values
        return keys, values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        assert self.keys is not None and self.values is not None, "rows are selected after prefill"
        # These stores are full; the next update makes room.
        self._key_store, self._value_store = self.keys[indices], self.values[indices]
        self.keys, self.values = self._key_store, self._value_store

    def _append(self, store: torch.Tensor, new: torch.Tensor, before: int) -> torch.Tensor:
        """The store with `new` written after its first `before` positions, in place if it fits."""
        after = before + new.shape[-2]
        if after > store.shape[-2]:
            grown = new.new_empty((*new.shape[:2], after + self.ROOM, new.shape[-1]))
            grown[..., :before, :] = store[..., :before, :]
            store = grown
        store[..., before:after, :] = new
        return store


def _prefill(network: PreTrainedModel, rows: Sequence[_Row]) -> _State:
    """Reads each distinct prompt once, then gives every row its copy of the cache."""
    prompts = {row.request.id: row.request.prompt_ids for row in rows}
    number = {request_id: index for index, request_id in enumerate(prompts)}
    width = max(map(len, prompts.values()))
    pads = torch.tensor([width - len(ids) for ids in prompts.values()], device=network.device)
    input_ids_PS = torch.tensor(
        [[0] * (width - len(ids)) + list(ids) for ids in prompts.values()], device=network.device
    )
    columns = torch.arange(width, device=network.device)
    mask_PS = (columns >= pads[:, None]).long() if pads.any() else None
    positions_PS = (columns - pads[:, None]).clamp(min=0)
    cache = DynamicCache(config=network.config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [_GrowingLayer() for _ in cache.layers]  # type: ignore[no-untyped-call]
    output = network(
        input_ids=input_ids_PS,
        attention_mask=mask_PS,
        position_ids=positions_PS,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    state = _State(cache, output.logits[:, -1], mask_PS, positions_PS[:, -1] + 1)
    state.select(torch.tensor([number[row.request.id] for row in rows], device=network.device))
    return state


def _pick(
    logits_BV: torch.Tensor, draws_B: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The drawn token of each row and its log-probability under the distribution drawn from."""
    logits_BV = logits_BV.float()
    if temperature == 0:
        token_B = logits_BV.argmax(-1)
        logprobs_BV = logits_BV.log_softmax(-1)
    else:
        logprobs_BV = (logits_BV / temperature).log_softmax(-1)
        cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
        target_B1 = (draws_B * cumulative_BV[:, -1])[:, None]
        token_B = torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
        token_B = token_B.clamp(max=logits_BV.shape[-1] - 1)
    return token_B, logprobs_BV.gather(-1, token_B[:, None])[:, 0]
