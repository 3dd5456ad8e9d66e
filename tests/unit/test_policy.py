"""One update of the tiny solver: the same however it is cut, and only where something teaches."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest
import torch
from accelerate import Accelerator

from sdbench import assembly, models, prompts
from sdbench.arithmetic.expression import sample
from sdbench.conditions.base import resolve
from sdbench.config import Suite, Train
from sdbench.losses.base import Loss
from sdbench.models import Model, student_view
from sdbench.records import TeacherView
from sdbench.train import batch
from sdbench.train.batch import Item
from sdbench.train.policy import Policy, UpdateResult, learning_rate

ROLLOUTS = 7


def config(tiny: Suite, **changes: int) -> Train:
    """Warm-up off and one peak, so that one update moves the weights by a known rate."""
    return tiny.train.model_copy(update={"warmup_updates": 0, **changes})


@pytest.fixture(scope="module")
def batch_items(organism: Model) -> list[Item]:
    """Rollouts of unlike length with both an advantage and a teacher's view, unlike the prompt's."""
    rng = random.Random(5)
    made = []
    for index in range(ROLLOUTS):
        problem = sample(rng)
        prompt = prompts.solver(organism.tokenizer, problem.text)
        ids = tuple(rng.randrange(4, 62) for _ in range(2 + 3 * index))
        told = prompts.teacher(
            organism.tokenizer, "organism", "solution", problem.text, "1" * (index % 3)
        )
        made.append(
            Item(
                student=student_view(prompt, ids),
                completion_ids=ids,
                sampling_logprobs=(-1.0,) * len(ids),
                advantage=(-1.0) ** index,
                teacher=TeacherView(told + ids, tuple(range(len(told), len(told) + len(ids)))),
            )
        )
    return made


@dataclasses.dataclass(frozen=True)
class Updated:
    result: UpdateResult
    weights: dict[str, torch.Tensor]


def organism_in_float64() -> Model:
    model = models.load("organism")
    model.network.double()
    return model


def initial_weights() -> dict[str, torch.Tensor]:
    return {k: v.detach() for k, v in organism_in_float64().network.named_parameters()}


def update(items: Sequence[Item], loss: Loss, train: Train) -> Updated:
    """The outcome of the first update of a fresh policy, in float64.

    AdamW's first step is rate * g / (|g| + 1e-8): in float32 a weight whose gradient is as small as
    its rounding error would move arbitrarily.
    """
    policy = Policy(
        organism_in_float64(), models.source_of("organism"), "float32", train, Accelerator()
    )
    policy.teacher().double()
    result = policy.update(items, loss, 1.0, 1)
    return Updated(result, {k: v.detach() for k, v in policy.model.network.named_parameters()})


@pytest.mark.parametrize("arm", ["grpo", "critique"])
def test_micro_batches_and_order_change_neither_loss_nor_weights(
    tiny: Suite, batch_items: list[Item], arm: str
) -> None:
    """Micro-batches of 1, 3 and 64 rollouts, in two orders, at the full learning rate of 1e-3."""
    loss = assembly.loss(tiny, resolve(tiny, arm))
    whole = update(batch_items, loss, config(tiny, micro_batch_rollouts=64))
    for rollouts in (1, 3):
        other = update(batch_items[::-1], loss, config(tiny, micro_batch_rollouts=rollouts))
        assert other.result.metrics == pytest.approx(whole.result.metrics, abs=1e-6, rel=1e-5)
        assert other.result.tokens_trained == whole.result.tokens_trained
        assert other.result.teacher_tokens == whole.result.teacher_tokens
        for name, weight in whole.weights.items():
            torch.testing.assert_close(other.weights[name], weight, atol=1e-6, rtol=0)


def test_the_update_moves_the_weights(tiny: Suite, batch_items: list[Item]) -> None:
    """AdamW's first step is at most the learning rate for every weight, and reaches it."""
    loss = assembly.loss(tiny, resolve(tiny, "critique"))
    before = initial_weights()
    after = update(batch_items, loss, config(tiny)).weights
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved == pytest.approx(tiny.train.learning_rate, rel=1e-3)


def test_rollouts_that_teach_nothing_dilute_the_loss_and_nothing_else(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """The loss is a mean over all tokens: as many flat ones again halve it."""
    loss = assembly.loss(tiny, resolve(tiny, "grpo"))
    taught = [dataclasses.replace(item, teacher=None) for item in batch_items]
    flat = [dataclasses.replace(item, advantage=0.0) for item in taught]
    alone = update(taught, loss, config(tiny)).result
    diluted = update([*taught, *flat], loss, config(tiny)).result
    assert diluted.metrics["train/loss"] == pytest.approx(alone.metrics["train/loss"] / 2, rel=1e-5)
    assert diluted.tokens_trained == alone.tokens_trained
    assert diluted.metrics["advantage/mean"] == pytest.approx(alone.metrics["advantage/mean"])


def test_an_update_in_which_nothing_teaches_changes_no_weight(
    tiny: Suite, batch_items: list[Item]
) -> None:
    loss = assembly.loss(tiny, resolve(tiny, "grpo"))
    flat = [dataclasses.replace(item, teacher=None, advantage=0.0) for item in batch_items]
    for items in (flat, []):
        after = update(items, loss, config(tiny))
        assert after.result.tokens_trained == 0
        assert after.result.metrics["train/loss"] == 0
        for name, weight in initial_weights().items():
            assert torch.equal(after.weights[name], weight)


def test_a_policy_that_agrees_with_its_teacher_has_no_loss(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """At the first update the teacher is the policy; with the student's own view they are equal."""
    loss = assembly.loss(tiny, resolve(tiny, "critique"))
    same = [dataclasses.replace(item, teacher=item.student) for item in batch_items]
    found = update(same, loss, config(tiny)).result.metrics
    assert found["train/loss"] == pytest.approx(0, abs=1e-6)
    assert found["advantage/absolute"] == pytest.approx(0, abs=1e-6)


def test_the_teacher_stays_the_initial_policy(tiny: Suite, batch_items: list[Item]) -> None:
    loss = assembly.loss(tiny, resolve(tiny, "critique"))
    model = models.load("organism")
    source = models.source_of("organism")
    policy = Policy(model, source, "float32", config(tiny), Accelerator())
    policy.update(batch_items, loss, 1.0, 1)
    for name, weight in models.load("organism").network.named_parameters():
        frozen = dict(policy.teacher().named_parameters())[name]
        assert torch.equal(frozen, weight)
        assert not frozen.requires_grad


def test_the_teacher_has_the_policys_dtype(tiny: Suite) -> None:
    """The teacher is the initial policy, so in bfloat16 it must round as the policy does."""
    model = models.load("organism", "bfloat16")
    source = models.source_of("organism")
    policy = Policy(model, source, "bfloat16", config(tiny), Accelerator())
    assert policy.teacher().dtype == model.network.dtype


def test_learning_rate_by_hand(tiny: Suite) -> None:
    """Peak 1, 4 warm-up updates of 10: 1/4, 2/4 * 9/10, 8/10 * 3/4, 7/10, ..., 1/10."""
    train = tiny.train.model_copy(update={"learning_rate": 1.0, "warmup_updates": 4, "updates": 10})
    found = [learning_rate(train, update) for update in (1, 2, 3, 4, 5, 10)]
    assert found == pytest.approx([0.25, 0.45, 0.6, 0.7, 0.6, 0.1])
    without = train.model_copy(update={"warmup_updates": 0})
    assert learning_rate(without, 1) == 1.0


def test_micro_batches_hold_what_teaches_once_each(batch_items: list[Item]) -> None:
    flat = dataclasses.replace(batch_items[0], advantage=0.0, teacher=None)
    cut = list(batch.micro_batches([*batch_items, flat], 3))
    assert [len(micro) for micro in cut] == [3, 3, 1]
    held = [item for micro in cut for item in micro]
    assert sorted(held, key=batch_items.index) == batch_items


def test_packing_puts_rollouts_end_to_end(batch_items: list[Item]) -> None:
    """Lengths 2, 5 and 8 with advantages 1, -1, 1."""
    three = batch_items[:3]
    assert batch.packed_ids(three).tolist() == [t for item in three for t in item.completion_ids]
    packed = batch.packed_advantages(three)
    assert packed is not None
    assert packed.tolist() == [1.0] * 2 + [-1.0] * 5 + [1.0] * 8
    assert len(batch.packed_sampling_logprobs(three)) == 15
    without = [*three[:2], dataclasses.replace(three[2], advantage=None, teacher=None)]
    assert batch.packed_advantages(without) is None
    assert batch.teacher_views(without) is None
    views = batch.teacher_views(three)
    assert views is not None and len(views) == 3


def test_logits_of_a_padded_batch_are_those_of_each_rollout_alone(
    organism: Model, batch_items: list[Item]
) -> None:
    views = [item.student for item in batch_items]
    with torch.no_grad():
        together = models.completion_logits(organism.network, views)
        alone = [models.completion_logits(organism.network, [view]) for view in views]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert len(together) == sum(len(view.positions) for view in views)
