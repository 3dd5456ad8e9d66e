"""The policy under training: its network, its teacher, its optimiser, one update.

In: items of this process. Out: changed weights and what was seen. With several processes each has
its own items; the loss is that of all of them together, as one process would have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch

from sdbench.config import Normalisation, Suite, Train
from sdbench.losses.base import Loss, LossInputs
from sdbench.models import Model
from sdbench.records import TeacherView
from sdbench.train import batch as batches
from sdbench.train import observe, processes, teachers
from sdbench.train.anchor import anchor_loss
from sdbench.train.batch import Item
from sdbench.train.chunked import Observed, Score, logits
from sdbench.train.normalise import Totals, token_weights, totals
from sdbench.train.scorer import Scorer
from sdbench.train.teachers import Teacher

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def learning_rate(config: Train, update: int) -> float:
    """The learning rate of an update (from 1): a linear rise to the peak, then the schedule."""
    rise = min(1.0, update / config.warmup_updates) if config.warmup_updates else 1.0
    fall = 1 - (update - 1) / config.updates if config.schedule == "linear" else 1.0
    return config.learning_rate * rise * fall


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What one update did, over all processes.

    Attributes:
        metrics: Numbers named `area/name`.
        tokens_trained: Completion tokens with a gradient.
        teacher_tokens: Tokens the teacher read, its prompts included.
        teacher_seconds: Time this process spent reading them.
        learning_seconds: Time it spent on forward and backward passes and optimiser steps.
    """

    metrics: dict[str, float]
    tokens_trained: int
    teacher_tokens: int
    teacher_seconds: float
    learning_seconds: float


@dataclass(frozen=True, slots=True)
class Objective:
    """What an update minimises.

    Attributes:
        loss: Gives each token its loss.
        temperature: At which the rollouts were drawn.
        max_tokens: Token cap of a completion, for constant normalisation.
        normalisation: How token losses become one.
        update: Number of the update, from 1; sets the learning rate.
    """

    loss: Loss
    temperature: float
    max_tokens: int
    normalisation: Normalisation
    update: int


@dataclass(slots=True)
class _Tally:
    """Sums over the micro-batches of one update in this process."""

    loss: float = 0.0
    seen: observe.Sums = field(default_factory=observe.Sums)
    tokens: int = 0
    teacher_tokens: int = 0
    teacher_seconds: float = 0.0


class Policy:
    """A model with an optimiser; `model` is shared with the engine that samples it."""

    def __init__(
        self,
        model: Model,
        suite: Suite,
        accelerator: Accelerator,
        initial: Callable[[], PreTrainedModel],
        *,
        teaches: bool = True,
        contrasts: bool = False,
    ) -> None:
        """Prepares training.

        Args:
            model: Current weights, which the optimiser changes in place.
            suite: Names the optimiser's settings and the teacher.
            accelerator: Device placement, distribution and the backward pass.
            initial: Loads the initial policy anew, for a teacher that needs a copy of it.
            teaches: Whether there will be teacher's views.
            contrasts: Whether each comes with one that it is contrasted with.
        """
        self._config = suite.train
        self._accelerator = accelerator
        self._idle = batches.idle(teaches=teaches, contrasts=contrasts)
        network = model.network
        if self._config.gradient_checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        optimizer = torch.optim.AdamW(
            [weight for weight in network.parameters() if weight.requires_grad],
            lr=self._config.learning_rate,
            betas=(self._config.betas[0], self._config.betas[1]),
            weight_decay=self._config.weight_decay,
            fused=True,
        )
        self._scorer, self.optimizer = accelerator.prepare(
            Scorer(network, compiled=self._config.compile), optimizer
        )
        self.model = model.around(accelerator.unwrap_model(self._scorer).network)

        def placed() -> PreTrainedModel:
            return cast("PreTrainedModel", initial().to(accelerator.device))

        def rounded() -> PreTrainedModel:
            return processes.rounded_as_shards(placed(), accelerator)

        self._initial = teachers.initial_teacher(self.model.network, self._read, rounded)
        fixed = suite.teacher.kind == "initial" or not teaches
        self.teacher: Teacher = (
            self._initial
            if fixed
            else teachers.build(suite.teacher, self.model.network, self._read, placed)
        )

    def update(self, items: Sequence[Item], objective: Objective) -> UpdateResult:
        """One update: `train.passes` optimiser steps on the same rollouts."""
        rate = learning_rate(self._config, objective.update)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        micros, weights = self._cut(items, objective)
        begin = time.perf_counter()
        old: dict[str, torch.Tensor] = {}
        tallies, norms = [], []
        for _ in range(self._config.passes):
            tally = _Tally()
            for place, micro in enumerate(micros):
                with self._synced(last=place == len(micros) - 1):
                    self._accumulate(micro, weights, objective, old, tally)
            tallies.append(tally)
            norms.append(self._step())
        self.teacher.follow(objective.update)
        # What the policy looked like is told of the first pass, what reading cost of all of them.
        first = tallies[0]
        first.teacher_tokens = sum(one.teacher_tokens for one in tallies)
        first.teacher_seconds = sum(one.teacher_seconds for one in tallies)
        return self._result(first, rate, norms[0], time.perf_counter() - begin)

    def _cut(
        self, items: Sequence[Item], objective: Objective
    ) -> tuple[list[list[Item]], dict[str, float]]:
        """Micro-batches, as many in every process, and the weight of each rollout's tokens."""
        skip, anchored = self._config.skip_tokens, self._config.anchor_weight > 0
        lengths = [item.trained_tokens(skip) for item in items]
        kept = [i for i, n in zip(items, lengths, strict=True) if n and (anchored or i.teaches)]
        micros = list(batches.micro_batches(kept, self._config.micro_batch_rollouts))
        here = totals(lengths)
        whole, most = self._over_processes(here, len(micros))
        shares = token_weights(lengths, objective.normalisation, objective.max_tokens, whole)
        # Processes average their gradients, and the loss is a sum over all of them.
        scale = self._accelerator.num_processes
        weights = {item.id: share * scale for item, share in zip(items, shares, strict=True)}
        return micros + [[self._idle]] * (most - len(micros)), weights | {self._idle.id: 0.0}

    def _over_processes(self, here: Totals, micros: int) -> tuple[Totals, int]:
        if self._accelerator.num_processes == 1:
            return here, micros
        counts = torch.tensor([here.tokens, here.rollouts, micros], device=self._accelerator.device)
        gathered = self._accelerator.gather(counts).view(-1, 3)
        tokens, rollouts, _ = gathered.sum(0).tolist()
        return Totals(tokens, rollouts), int(gathered[:, 2].max())

    def _synced(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients are averaged over processes once an update, at its last micro-batch.

        Where processes share the weights in shards, they do so at each one: what waited for the last
        would be gradients of all weights in every process.
        """
        if last or processes.is_sharded(self._accelerator):
            return nullcontext()
        return cast(AbstractContextManager[object], self._accelerator.no_sync(self._scorer))

    def _accumulate(
        self,
        micro: list[Item],
        weights: Mapping[str, float],
        objective: Objective,
        old: dict[str, torch.Tensor],
        tally: _Tally,
    ) -> None:
        device = self._accelerator.device
        skip = self._config.skip_tokens
        weights_N = batches.packed_weights(micro, weights, skip).to(device)
        score = self._scoring(micro, objective, weights_N, old, tally)
        self.model.network.train()
        loss, observed = self._scorer(
            [item.student for item in micro], score, self._config.chunk_logits
        )
        self._accelerator.backward(loss)
        self.model.network.eval()
        tally.loss += loss.item() / self._accelerator.num_processes
        counted_N = weights_N > 0
        tally.tokens += int(counted_N.sum())
        tally.seen.see(observed, counted_N, _roles(micro), self._config.importance_cap)
        if self._config.passes > 1 and not old.keys() >= {item.id for item in micro}:
            sizes = [len(item.completion_ids) for item in micro]
            kept = observed[observe.POLICY_LOGPROBS].split(sizes)
            old.update((item.id, part) for item, part in zip(micro, kept, strict=True))

    def _scoring(
        self,
        micro: list[Item],
        objective: Objective,
        weights_N: torch.Tensor,
        old: Mapping[str, torch.Tensor],
        tally: _Tally,
    ) -> Score:
        """How a chunk of this micro-batch's tokens is scored."""
        device = self._accelerator.device
        ids_N = batches.packed_ids(micro).to(device)
        sampling_N = _placed(batches.packed_sampling_logprobs(micro), device)
        advantages_N = _placed(batches.packed_advantages(micro), device)
        old_N = torch.cat([old[item.id] for item in micro]) if old.keys() >= _ids(micro) else None
        taught_NH = self._teach(batches.teacher_views(micro), micro, tally)
        against_NH = self._teach(batches.views_against(micro), micro, tally)
        initial_NH = self._recall(micro)
        cap, anchor_weight = self._config.importance_cap, self._config.anchor_weight

        def score(logits_nV: torch.Tensor, part: slice) -> tuple[torch.Tensor, Observed]:
            inputs = LossInputs(
                completion_ids_N=ids_N[part],
                policy_logits_NV=logits_nV,
                sampling_logprobs_N=_part(sampling_N, part, logits_nV.dtype),
                temperature=objective.temperature,
                advantages_N=_part(advantages_N, part, logits_nV.dtype),
                teacher_logits_NV=self._logits(self.teacher, taught_NH, part),
                against_logits_NV=self._logits(self.teacher, against_NH, part),
                old_logprobs_N=_part(old_N, part, logits_nV.dtype),
                update=objective.update,
            )
            seen = observe.at_tokens(inputs)
            weights_n = weights_N[part].to(logits_nV.dtype)
            losses_n = objective.loss(inputs)
            if cap is not None and observe.IMPORTANCE in seen:
                losses_n = losses_n * seen[observe.IMPORTANCE].clamp(max=cap)
            initial_nV = self._logits(self._initial, initial_NH, part)
            if initial_nV is not None:
                pull_n = anchor_loss(inputs, initial_nV)
                losses_n = losses_n + anchor_weight * pull_n
                seen["train/anchor"] = pull_n
            return losses_n * weights_n, seen

        return score

    def _teach(
        self, views: list[TeacherView] | None, micro: list[Item], tally: _Tally
    ) -> torch.Tensor | None:
        """The teacher's hidden states at the micro-batch's tokens, [N, H]; None without views."""
        if views is None:
            return None
        start = time.perf_counter()
        with self._accelerator.autocast():  # rounds as the policy does
            hidden_NH = self.teacher.hidden(views)
        tally.teacher_tokens += sum(
            len(view.input_ids)
            for view, item in zip(views, micro, strict=True)
            if item.id != batches.IDLE
        )
        tally.teacher_seconds += time.perf_counter() - start
        return hidden_NH

    def _recall(self, micro: list[Item]) -> torch.Tensor | None:
        """The initial policy's hidden states at the same tokens, [N, H]; None without an anchor."""
        if not self._config.anchor_weight:
            return None
        with self._accelerator.autocast():
            return self._initial.hidden([item.student for item in micro])

    @torch.no_grad()
    def _logits(
        self, teacher: Teacher, hidden_NH: torch.Tensor | None, part: slice
    ) -> torch.Tensor | None:
        """A chunk of a teacher's logits, [n, V], within the policy's forward pass.

        Only there is an output layer whole that processes share in shards.
        """
        if hidden_NH is None:
            return None
        head = teacher.head
        with self._accelerator.autocast():
            return logits(hidden_NH[part], head.weight, head.bias)

    def _read(self, views: Sequence[object]) -> torch.Tensor:
        """Hidden states by the policy's own network as it stands, in the policy's own precision."""
        with torch.autocast(self._accelerator.device.type, enabled=False):
            hidden_NH: torch.Tensor = self._scorer(views, None, 0)[0]
        return hidden_NH

    def _step(self) -> float:
        norm = self._accelerator.clip_grad_norm_(
            self._scorer.parameters(), self._config.max_gradient_norm
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        whole = getattr(norm, "full_tensor", None)  # of sharded gradients
        return 0.0 if norm is None else float(norm if whole is None else whole())

    def _result(self, tally: _Tally, rate: float, norm: float, seconds: float) -> UpdateResult:
        whole = processes.gathered(tally, self._accelerator)
        seen = observe.Sums.joined([one.seen for one in whole])
        metrics = {
            "train/loss": sum(one.loss for one in whole) + 0.0,  # a sum of -0.0 is 0
            "train/learning_rate": rate,
            "train/gradient_norm": norm,
            **seen.means(),
        }
        return UpdateResult(
            metrics=metrics,
            tokens_trained=sum(one.tokens for one in whole),
            teacher_tokens=sum(one.teacher_tokens for one in whole),
            teacher_seconds=tally.teacher_seconds,
            learning_seconds=seconds - tally.teacher_seconds,
        )


def _placed(values_N: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if values_N is None else values_N.to(device)


def _part(values_N: torch.Tensor | None, part: slice, dtype: torch.dtype) -> torch.Tensor | None:
    return None if values_N is None else values_N[part].to(dtype)


def _ids(micro: Sequence[Item]) -> set[str]:
    return {item.id for item in micro}


def _roles(micro: Sequence[Item]) -> list[str] | None:
    """The role of each token, [N], empty where unknown; None if none is known."""
    if all(item.roles is None for item in micro):
        return None
    return [role for item in micro for role in (item.roles or ("",) * len(item.completion_ids))]
