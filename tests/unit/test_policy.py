"""One update of the tiny solver: the same however it is cut, and only where something teaches."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence

import pytest
import torch
from accelerate.state import AcceleratorState
from training_fixture import (
    ADAPTER,
    Spy,
    exact_policy,
    fresh_policy,
    logprobs_of,
    make_items,
    objective,
    ones,
    organism_in_float64,
    weights_of,
    with_train,
)

from sdbench import assembly, models, plugins
from sdbench.conditions.base import resolve
from sdbench.config import Suite
from sdbench.losses.base import Loss, LossInputs
from sdbench.models import Model
from sdbench.train import batch
from sdbench.train.batch import Item
from sdbench.train.policy import Policy, UpdateResult, learning_rate

LENGTHS = (2, 5, 8, 11, 14, 17, 20)
LOSSES = ("policy_gradient", "forward_kl", "reverse_kl", "jsd", "token_policy_gradient")


@pytest.fixture(scope="module")
def batch_items(organism: Model) -> list[Item]:
    """Rollouts of unlike length with both an advantage and a teacher's view, unlike the prompt's."""
    return make_items(organism, LENGTHS)


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    """Accelerate settles the type once a process; these tests are their own."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def loss_of(name: str) -> Loss:
    module = plugins.load(plugins.Kind.LOSS, name)
    built: Loss = module.build(module.Config())
    return built


def initial_weights() -> dict[str, torch.Tensor]:
    return {n: w.detach() for n, w in organism_in_float64().network.named_parameters()}


@dataclasses.dataclass(frozen=True)
class Updated:
    result: UpdateResult
    weights: dict[str, torch.Tensor]


def update(items: Sequence[Item], loss: Loss, suite: Suite, **changes: object) -> Updated:
    """The outcome of the first update of a fresh policy, in float64."""
    changed = with_train(suite, **changes)
    policy = exact_policy(changed)
    result = policy.update(items, objective(changed, loss))
    return Updated(result, weights_of(policy))


def assert_same(one: Updated, other: Updated) -> None:
    assert one.result.metrics == pytest.approx(other.result.metrics, abs=1e-6, rel=1e-5)
    assert one.result.tokens_trained == other.result.tokens_trained
    assert one.result.teacher_tokens == other.result.teacher_tokens
    for name, weight in other.weights.items():
        torch.testing.assert_close(one.weights[name], weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arm", "normalisation", "skip_tokens"),
    [("grpo", "token", 0), ("critique", "token", 0), ("critique", "sequence", 4)],
)
def test_micro_batches_and_order_change_neither_loss_nor_weights(
    tiny: Suite, batch_items: list[Item], arm: str, normalisation: str, skip_tokens: int
) -> None:
    """Micro-batches of 1, 3 and 64 rollouts, in two orders, at the full learning rate of 1e-3."""
    loss = assembly.loss(tiny, resolve(tiny, arm))
    shared = {"normalisation": normalisation, "skip_tokens": skip_tokens}
    whole = update(batch_items, loss, tiny, micro_batch_rollouts=64, **shared)
    for rollouts in (1, 3):
        other = update(batch_items[::-1], loss, tiny, micro_batch_rollouts=rollouts, **shared)
        assert_same(other, whole)


@pytest.mark.parametrize("loss", ["forward_kl", "policy_gradient"])
def test_what_spares_memory_changes_nothing(
    tiny: Suite, batch_items: list[Item], loss: str
) -> None:
    """Chunks of one token's 64 logits, and activations computed twice."""
    plain = update(batch_items, loss_of(loss), tiny, anchor_weight=0.1)
    for change in ({"chunk_logits": 64}, {"gradient_checkpointing": True}):
        assert_same(update(batch_items, loss_of(loss), tiny, anchor_weight=0.1, **change), plain)


@pytest.mark.parametrize("loss", ["forward_kl", "policy_gradient"])
def test_a_loss_never_sees_more_logits_than_allowed(
    tiny: Suite, batch_items: list[Item], loss: str
) -> None:
    """3 tokens times a vocabulary of 64 are 192 logits; of 200, three tokens fit."""
    spy = Spy(loss_of(loss))
    update(batch_items, spy, tiny, chunk_logits=200)
    assert max(len(inputs.completion_ids_N) for inputs in spy.inputs) == 3
    assert sum(len(inputs.completion_ids_N) for inputs in spy.inputs) == sum(LENGTHS)


def test_the_update_moves_the_weights(tiny: Suite, batch_items: list[Item]) -> None:
    """AdamW's first step is at most the learning rate for every weight, and reaches it."""
    before = initial_weights()
    after = update(batch_items, loss_of("forward_kl"), tiny).weights
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved == pytest.approx(tiny.train.learning_rate, rel=1e-3)


def test_rollouts_that_teach_nothing_dilute_the_loss_and_nothing_else(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """The loss is a mean over all tokens: as many flat ones again halve it."""
    loss = loss_of("policy_gradient")
    taught = [dataclasses.replace(item, teacher=None) for item in batch_items]
    flat = [dataclasses.replace(item, id=f"{item.id}'", advantage=0.0) for item in taught]
    alone = update(taught, loss, tiny).result
    diluted = update([*taught, *flat], loss, tiny).result
    assert alone.metrics["train/loss"] != 0
    assert diluted.metrics["train/loss"] == pytest.approx(alone.metrics["train/loss"] / 2, rel=1e-5)
    assert diluted.tokens_trained == alone.tokens_trained == sum(LENGTHS)
    assert diluted.metrics["advantage/mean"] == pytest.approx(alone.metrics["advantage/mean"])


def test_an_update_in_which_nothing_teaches_changes_no_weight(
    tiny: Suite, batch_items: list[Item]
) -> None:
    before = initial_weights()
    flat = [dataclasses.replace(item, teacher=None, advantage=0.0) for item in batch_items]
    for items in (flat, []):
        after = update(items, loss_of("policy_gradient"), tiny)
        assert after.result.tokens_trained == 0
        assert (
            after.result.metrics["train/loss"] == after.result.metrics["train/gradient_norm"] == 0
        )
        for name, weight in before.items():
            assert torch.equal(after.weights[name], weight)


def test_a_policy_that_agrees_with_its_teacher_has_no_loss(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """At the first update the teacher is the policy; with the student's own view they are equal."""
    same = [dataclasses.replace(item, teacher=item.student) for item in batch_items]
    found = update(same, loss_of("forward_kl"), tiny).result.metrics
    for name in ("train/loss", "advantage/absolute", "divergence/reverse_kl"):
        assert found[name] == pytest.approx(0, abs=1e-6)


def test_skipped_tokens_have_no_gradient_and_short_rollouts_drop_out(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """Of 5 skipped the rollouts of 2 and 5 tokens have none left, that of 8 has 3.

    The others count 3 + 6 + 9 + 12 + 15 = 45 tokens; with a loss of 1 each the mean is 1.
    """
    spy = Spy(loss_of("forward_kl"))
    found = update(batch_items, spy, tiny, skip_tokens=5, micro_batch_rollouts=1)
    assert found.result.tokens_trained == 45
    assert sorted(map(len, spy.gradients)) == [8, 11, 14, 17, 20]
    for gradient_NV in spy.gradients:
        assert not gradient_NV[:5].any()
        assert gradient_NV[5:].any(dim=1).all()
    for normalisation in ("token", "sequence"):
        mean = update(
            batch_items, ones, tiny, skip_tokens=5, normalisation=normalisation, importance_cap=None
        )
        assert mean.result.metrics["train/loss"] == pytest.approx(1)


def drawn_as_if(items: Sequence[Item], ratios: dict[tuple[int, int], float]) -> list[Item]:
    """Rollouts whose tokens at (rollout, place) the policy finds so many times as probable now."""
    changed = []
    model = organism_in_float64()
    for row, item in enumerate(items):
        logprobs = logprobs_of(model.network, [item.student], item.completion_ids)
        drawn = [
            value - torch.tensor(ratios.get((row, place), 1.0)).double().log().item()
            for place, value in enumerate(logprobs)
        ]
        changed.append(dataclasses.replace(item, sampling_logprobs=tuple(drawn)))
    return changed


RATIOS = {(1, 0): 1.5, (2, 3): 4.0, (3, 10): 0.5, (6, 19): 2.0}


def test_importance_ratios_by_hand(tiny: Suite, batch_items: list[Item]) -> None:
    """77 tokens of loss 1, four with ratios 1.5, 4, .5 and 2, capped at 2.

    The loss is (73 + 1.5 + 2 + .5 + 2) / 77 = 79 / 77, the mean ratio (73 + 8) / 77; one of 77 is
    capped. Without a cap nothing is weighted, and the ratio is logged all the same.
    """
    items = drawn_as_if(batch_items, RATIOS)
    found = update(items, ones, tiny, importance_cap=2.0).result.metrics
    assert found["train/loss"] == pytest.approx(79 / 77, rel=1e-5)
    assert found["importance/mean"] == pytest.approx(81 / 77, rel=1e-5)
    assert found["importance/capped"] in (pytest.approx(1 / 77), pytest.approx(2 / 77))
    without = update(items, ones, tiny, importance_cap=None).result.metrics
    assert without["train/loss"] == pytest.approx(1)
    assert without["importance/mean"] == pytest.approx(81 / 77, rel=1e-5)
    assert "importance/capped" not in without


@pytest.mark.parametrize("name", LOSSES)
def test_the_capped_ratio_weights_every_loss(
    tiny: Suite, batch_items: list[Item], name: str
) -> None:
    """The loss of exactly those tokens changes, and their gradient by the same factor."""
    plain, weighted = Spy(loss_of(name)), Spy(loss_of(name))
    one = {"micro_batch_rollouts": 64, "importance_cap": 2.0}
    before = update(drawn_as_if(batch_items, {}), plain, tiny, **one).result.metrics
    after = update(drawn_as_if(batch_items, RATIOS), weighted, tiny, **one).result.metrics
    expected_N = torch.ones(77, dtype=torch.float64)
    for (row, place), ratio in RATIOS.items():
        expected_N[sum(LENGTHS[:row]) + place] = min(ratio, 2.0)
    torch.testing.assert_close(weighted.values[0], plain.values[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        weighted.gradients[0], plain.gradients[0] * expected_N[:, None], atol=1e-7, rtol=1e-5
    )
    mean = (plain.values[0] * expected_N).mean().item()
    assert after["train/loss"] == pytest.approx(mean, rel=1e-5)
    assert before["importance/mean"] == pytest.approx(1, rel=1e-5)


def test_a_second_pass_has_ratios_to_the_policy_before_the_first(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """Two steps at a rate of 1e-2: ratios leave [.8, 1.2], and there the clip stops the gradient.

    It binds where the token has become more probable at advantage 1, or less at advantage -1. The
    weight for what the engine drew is that of the first pass, 1.
    """
    spy = Spy(loss_of("policy_gradient"))
    policy = exact_policy(with_train(tiny, passes=2, learning_rate=1e-2, micro_batch_rollouts=3))
    result = policy.update(batch_items, objective(tiny, spy))
    first, second = spy.inputs[:3], spy.inputs[3:]
    assert [inputs.old_logprobs_N for inputs in first] == [None] * 3
    bound = 0
    for now, before, gradient_NV in zip(second, first, spy.gradients[3:], strict=True):
        assert now.old_logprobs_N is not None and now.advantages_N is not None
        assert torch.equal(now.completion_ids_N, before.completion_ids_N)
        assert torch.equal(now.old_logprobs_N, before.policy_logprobs_N)
        ratios_N = (now.policy_logprobs_N - now.old_logprobs_N).exp()
        up, down = now.advantages_N > 0, now.advantages_N < 0
        clipped_N = up & (ratios_N > 1.2) | down & (ratios_N < 0.8)
        assert torch.equal(~gradient_NV.any(dim=1), clipped_N)
        bound += int(clipped_N.sum())
    assert 0 < bound < 77
    assert result.metrics["importance/mean"] == pytest.approx(1, rel=1e-5)
    assert result.tokens_trained == 77, "tokens are counted once"
    (state,) = {int(one["step"]) for one in policy.optimizer.state.values()}
    assert state == 2


def test_the_anchor_pulls_back_to_the_initial_policy(tiny: Suite, batch_items: list[Item]) -> None:
    """Zero at the first update, also where nothing else teaches; positive when the policy has moved."""
    suite = with_train(tiny, anchor_weight=0.5, importance_cap=None)
    flat = [dataclasses.replace(i, teacher=None, advantage=0.0) for i in batch_items]
    policy = exact_policy(suite, teaches=False)
    still = policy.update(flat, objective(suite, loss_of("policy_gradient")))
    assert still.metrics["train/anchor"] == pytest.approx(0, abs=1e-9)
    assert still.metrics["train/gradient_norm"] == pytest.approx(0, abs=1e-6)
    policy = exact_policy(with_train(suite, betas=[0.0, 0.95]))
    policy.update(batch_items, objective(suite, loss_of("forward_kl")))
    # At the 58th of 60 updates the rate is small enough not to overshoot.
    moved = policy.update(flat, objective(suite, loss_of("policy_gradient"), 58)).metrics
    assert moved["train/anchor"] > 1e-4
    assert moved["train/loss"] == pytest.approx(0.5 * moved["train/anchor"])
    again = policy.update(flat, objective(suite, loss_of("policy_gradient"), 59)).metrics
    assert again["train/anchor"] < moved["train/anchor"]


def test_full_weights_stay_float32_where_bfloat16_is_computed(
    tiny: Suite, batch_items: list[Item], mixed_precision: None
) -> None:
    """In bfloat16 a step of 1e-3 would round away; teacher and policy still round alike."""
    suite = with_train(tiny, anchor_weight=0.1).model_copy(update={"dtype": "bfloat16"})
    policy = policy_in(suite)
    same = [dataclasses.replace(item, teacher=item.student) for item in batch_items]
    spy = Spy(loss_of("forward_kl"))
    found = policy.update(same, objective(suite, spy)).metrics
    assert found["train/loss"] == pytest.approx(0, abs=1e-6), "the teacher rounds otherwise"
    assert found["train/anchor"] == pytest.approx(0, abs=1e-6)
    logits_NV = spy.inputs[0].policy_logits_NV.detach()
    assert logits_NV.dtype == torch.float32
    policy = policy_in(suite)
    rounded = policy.update(batch_items, objective(suite, loss_of("forward_kl"))).metrics
    before, after = initial_weights(), weights_of(policy)
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved == pytest.approx(tiny.train.learning_rate, rel=1e-2)
    exact = update(batch_items, loss_of("forward_kl"), tiny).result.metrics
    name = "divergence/forward_kl"
    assert rounded[name] != pytest.approx(exact[name], rel=1e-6), "nothing was rounded"
    assert rounded[name] == pytest.approx(exact[name], rel=0.05)


def policy_in(suite: Suite) -> Policy:
    """As a run opens it, with the precision that the suite asks for."""
    from accelerate import Accelerator

    from sdbench.train.network import mixed_precision as precision_of

    Accelerator(mixed_precision=precision_of(suite))
    return fresh_policy(suite)


def test_an_adapter_is_float32_over_a_bfloat16_base(tiny: Suite, batch_items: list[Item]) -> None:
    suite = with_train(tiny).model_copy(update={"dtype": "bfloat16", "lora": ADAPTER})
    policy = fresh_policy(suite)
    before = weights_of(policy)
    policy.update(batch_items, objective(suite, loss_of("forward_kl")))
    for name, weight in weights_of(policy).items():
        assert weight.dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name
        assert torch.equal(weight, before[name]) == ("lora_B" not in name), name


def test_of_an_adapted_policy_only_the_adapter_changes(
    tiny: Suite, batch_items: list[Item]
) -> None:
    """B starts at zero, so A has no gradient in the first update and moves in the second."""
    suite = with_train(tiny).model_copy(update={"lora": ADAPTER})
    policy = fresh_policy(suite)
    before, base = weights_of(policy), models.load("organism").network.state_dict()
    for number in (1, 2):
        policy.update(batch_items, objective(suite, loss_of("forward_kl"), number))
    for name, weight in weights_of(policy).items():
        assert torch.equal(weight, before[name]) == ("lora_" not in name), name
        if "lora_" not in name:
            original = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(weight, base[original])


def test_advantages_are_averaged_by_role(tiny: Suite, batch_items: list[Item]) -> None:
    """Of tokens whose role is known; those that are skipped do not count, nor rollouts without."""
    roles = ("correct", "correct", "first_wrong", "later", "later", "", "later", "later")
    items = [dataclasses.replace(batch_items[2], roles=roles), batch_items[1]]
    suite = with_train(tiny, skip_tokens=1, micro_batch_rollouts=64)
    spy = Spy(loss_of("forward_kl"))
    found = exact_policy(suite).update(items, objective(suite, spy)).metrics
    advantages_N = spy.inputs[0].token_advantages_N[-8:]  # the shorter rollout stands first
    assert len(items[0].student.input_ids) > len(items[1].student.input_ids)
    for role, places in {"correct": [1], "first_wrong": [2], "later": [3, 4, 6, 7]}.items():
        assert found[f"advantage/{role}"] == pytest.approx(advantages_N[places].mean().item())
    assert "advantage/" not in found
    plain = exact_policy(suite).update(batch_items, objective(suite, loss_of("forward_kl")))
    assert {n for n in plain.metrics if n.startswith("advantage/")} == {
        "advantage/mean",
        "advantage/absolute",
    }


@pytest.mark.slow
# torch's own compiler uses what torch has deprecated; torch must act on it.
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch compiles with gcc")
@pytest.mark.parametrize("teacher", ["initial", "ema"])
def test_a_compiled_network_has_the_same_loss(
    tiny: Suite, batch_items: list[Item], teacher: str
) -> None:
    """With an adapter, whose teacher reads by the same network in another state, two updates long."""
    teachers = tiny.teacher.model_copy(update={"kind": teacher, "decay": 0.5})
    found = []
    for compiled in (False, True):
        suite = with_train(tiny, compile=compiled, learning_rate=1e-2)
        suite = suite.model_copy(update={"lora": ADAPTER, "teacher": teachers})
        policy = fresh_policy(suite)
        for number in (1, 2, 3):
            result = policy.update(batch_items, objective(suite, loss_of("forward_kl"), number))
            found.append(result.metrics["train/loss"])
    assert found[3:] == pytest.approx(found[:3], abs=1e-4)
    assert len(set(found[:3])) == 3


def test_learning_rate_by_hand(tiny: Suite) -> None:
    """Peak 1, 4 warm-up updates of 10: 1/4, 2/4 * 9/10, 8/10 * 3/4, 7/10, ..., 1/10."""
    train = tiny.train.model_copy(update={"learning_rate": 1.0, "warmup_updates": 4, "updates": 10})
    found = [learning_rate(train, update) for update in (1, 2, 3, 4, 5, 10)]
    assert found == pytest.approx([0.25, 0.45, 0.6, 0.7, 0.6, 0.1])
    without = train.model_copy(update={"warmup_updates": 0})
    assert learning_rate(without, 1) == 1.0
    constant = train.model_copy(update={"schedule": "constant"})
    found = [learning_rate(constant, update) for update in (1, 2, 4, 5, 10)]
    assert found == pytest.approx([0.25, 0.5, 1, 1, 1])


def test_micro_batches_hold_each_rollout_once_shortest_first(batch_items: list[Item]) -> None:
    cut = list(batch.micro_batches(batch_items[::-1], 3))
    assert [len(micro) for micro in cut] == [3, 3, 1]
    held = [item for micro in cut for item in micro]
    assert sorted(held, key=batch_items.index) == batch_items
    sizes = [len(item.student.input_ids) for item in held]
    assert sizes == sorted(sizes)


def test_packing_puts_rollouts_end_to_end(batch_items: list[Item]) -> None:
    """Lengths 2, 5 and 8 with advantages 1, -1, 1, of which the first 3 tokens weigh nothing."""
    three = batch_items[:3]
    assert batch.packed_ids(three).tolist() == [t for item in three for t in item.completion_ids]
    packed = batch.packed_advantages(three)
    assert packed is not None
    assert packed.tolist() == [1.0] * 2 + [-1.0] * 5 + [1.0] * 8
    drawn = batch.packed_sampling_logprobs(three)
    assert drawn is not None
    assert len(drawn) == 15
    written = dataclasses.replace(three[0], sampling_logprobs=None)
    assert batch.packed_sampling_logprobs([written, *three[1:]]) is None
    shares = dict(zip((item.id for item in three), (0.1, 0.2, 0.3), strict=True))
    weights = batch.packed_weights(three, shares, 3)
    assert weights.tolist() == [0.0] * 2 + [0.0] * 3 + [0.2] * 2 + [0.0] * 3 + [0.3] * 5
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


def test_a_schedule_knows_which_update_it_is(tiny: Suite, batch_items: list[Item]) -> None:
    numbers = []

    def loss(inputs: LossInputs) -> torch.Tensor:
        numbers.append(inputs.update)
        return ones(inputs)

    suite = with_train(tiny, micro_batch_rollouts=64)
    exact_policy(suite).update(batch_items, objective(suite, loss, 7))
    assert numbers == [7]
