"""Teachers: which weights they read with, and that an average is the average of what acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import nn
from training_fixture import ADAPTER, SEED, make_items, organism_in_float64

from sdbench.config import Suite
from sdbench.config import Teacher as TeacherConfig
from sdbench.errors import CheckpointError, ConfigError
from sdbench.models import Model, completion_hidden, head_of
from sdbench.records import TeacherView
from sdbench.train import teachers
from sdbench.train.network import open_network
from sdbench.train.teachers import Teacher

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

EMA = TeacherConfig(kind="ema", decay=0.5)
REFRESH = TeacherConfig(kind="refresh", every=2)


@pytest.fixture(scope="module")
def views(organism: Model) -> list[TeacherView]:
    made = [item.teacher for item in make_items(organism, (3, 9))]
    return [view for view in made if view is not None]


@pytest.fixture
def full() -> PreTrainedModel:
    """All weights, in float64."""
    return organism_in_float64().network


@pytest.fixture
def adapted(tiny: Suite) -> PreTrainedModel:
    """An adapter over them, in float64."""
    lora = ADAPTER.model_copy(update={"dropout": 0.5})
    network = open_network(tiny.model_copy(update={"lora": lora}), SEED, None).network
    return network.double()


def built(config: TeacherConfig, network: PreTrainedModel) -> Teacher:
    def read(views: object) -> torch.Tensor:
        return completion_hidden(network, cast("list[TeacherView]", views))

    return teachers.build(config, network, read, lambda: organism_in_float64().network)


def no_copy() -> PreTrainedModel:
    raise AssertionError("the weights were loaded a second time")


def layers(network: PreTrainedModel) -> dict[str, LoraLayer]:
    from peft.tuners.lora import LoraLayer

    return {n: module for n, module in network.named_modules() if isinstance(module, LoraLayer)}


@torch.no_grad()
def move(network: PreTrainedModel, seed: int) -> None:
    """Stands for an update: every weight that is trained gets a new value."""
    draw = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.copy_(torch.randn(weight.shape, generator=draw, dtype=torch.float64) * 0.3)


@torch.no_grad()
def hidden_of(network: PreTrainedModel, views: list[TeacherView]) -> torch.Tensor:
    return completion_hidden(network.eval(), views)


@pytest.mark.parametrize("kind", ["full", "adapted"])
def test_the_initial_teacher_stays_and_the_live_one_follows(
    kind: str, views: list[TeacherView], request: pytest.FixtureRequest
) -> None:
    network: PreTrainedModel = request.getfixturevalue(kind)
    initial = built(TeacherConfig(kind="initial"), network)
    live = built(TeacherConfig(kind="live"), network)
    before = hidden_of(network, views)
    torch.testing.assert_close(initial.hidden(views), before, atol=1e-12, rtol=0)
    move(network, 1)
    initial.follow(1)
    live.follow(1)
    after = hidden_of(network, views)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(initial.hidden(views), before, atol=1e-12, rtol=0)
    torch.testing.assert_close(live.hidden(views), after, atol=1e-12, rtol=0)
    assert initial.state() == live.state() == {}


@pytest.mark.parametrize("config", [TeacherConfig(kind="initial"), EMA, REFRESH])
def test_with_an_adapter_there_is_no_second_copy_of_the_weights(
    adapted: PreTrainedModel, config: TeacherConfig, views: list[TeacherView]
) -> None:
    """A teacher that reads by the policy's network holds its products alone: 4 layers, q and v."""
    teacher = teachers.build(
        config, adapted, lambda views: completion_hidden(adapted, views), no_copy
    )
    teacher.hidden(views)
    assert teacher.head.weight is head_of(adapted).weight
    shapes = sorted(tuple(tensor.shape) for tensor in teacher.state().values())
    assert shapes == ([] if config.kind == "initial" else [(128, 96)] * 8)
    own = {id(weight) for weight in adapted.parameters()}
    assert not own & {id(tensor) for tensor in teacher.state().values()}


def test_a_copy_is_made_when_it_is_first_read(
    full: PreTrainedModel, views: list[TeacherView]
) -> None:
    """A condition without a teacher never pays for one; the copy is another model and is frozen."""
    loaded: list[PreTrainedModel] = []

    def load() -> PreTrainedModel:
        loaded.append(organism_in_float64().network.train())
        return loaded[-1]

    teacher = teachers.build(TeacherConfig(), full, lambda views: hidden_of(full, [*views]), load)
    assert not loaded
    assert not teacher.hidden(views).requires_grad
    teacher.hidden(views)
    assert len(loaded) == 1
    assert not loaded[0].training
    assert not any(weight.requires_grad for weight in loaded[0].parameters())
    assert teacher.head is head_of(loaded[0])


def test_the_average_of_all_weights_by_hand(full: PreTrainedModel) -> None:
    """Decay 1/2 and two updates: 1/4 initial + 1/4 first + 1/2 second."""
    teacher = built(EMA, full)
    seen = [{name: w.detach().clone() for name, w in full.named_parameters()}]
    for number in (1, 2):
        move(full, number)
        seen.append({name: w.detach().clone() for name, w in full.named_parameters()})
        teacher.follow(number)
    for name, average in teacher.state().items():
        expected = seen[0][name] / 4 + seen[1][name] / 4 + seen[2][name] / 2
        torch.testing.assert_close(average, expected, atol=1e-12, rtol=1e-12)
    assert set(teacher.state()) == set(seen[0])


def test_the_average_of_an_adapter_is_that_of_the_product(adapted: PreTrainedModel) -> None:
    """Rank 2 and alpha 4, so P = 2 B A; decay 1/2, two updates: 1/4 P1 + 1/2 P2, as P0 = 0.

    The product of averaged factors is another matrix.
    """
    teacher = built(EMA, adapted)
    factors = []
    for number in (1, 2):
        move(adapted, number)
        factors.append(
            {
                name: (
                    cast(nn.Linear, layer.lora_A["default"]).weight.detach().clone(),
                    cast(nn.Linear, layer.lora_B["default"]).weight.detach().clone(),
                )
                for name, layer in layers(adapted).items()
            }
        )
        teacher.follow(number)
    state = teacher.state()
    assert set(state) == set(layers(adapted))
    for name, average in state.items():
        (first_a, first_b), (second_a, second_b) = factors[0][name], factors[1][name]
        expected = 2 * (first_b @ first_a) / 4 + 2 * (second_b @ second_a) / 2
        torch.testing.assert_close(average.double(), expected, atol=1e-6, rtol=1e-5)
        mixed = 2 * (first_b / 4 + second_b / 2) @ (first_a / 4 + second_a / 2)
        assert (mixed - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["full", "adapted"])
def test_a_refresh_takes_the_policy_over_every_other_update(
    kind: str, request: pytest.FixtureRequest
) -> None:
    network: PreTrainedModel = request.getfixturevalue(kind)
    teacher = built(REFRESH, network)
    states = []
    for number in (1, 2, 3, 4):
        move(network, number)
        teacher.follow(number)
        states.append({name: tensor.clone() for name, tensor in teacher.state().items()})
    start = built(REFRESH, network if kind == "adapted" else organism_in_float64().network)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, start.state()[name]), "an update without a refresh"
        assert not torch.equal(states[1][name], tensor)
        assert torch.equal(states[2][name], states[1][name])
    current = (
        {name: teachers.product(layer) for name, layer in layers(network).items()}
        if kind == "adapted"
        else dict(network.named_parameters())
    )
    for name, tensor in states[3].items():
        assert torch.equal(tensor, current[name].detach())


@pytest.mark.parametrize("config", [EMA, REFRESH])
def test_an_averaged_adapter_reads_like_a_model_with_it_merged(
    adapted: PreTrainedModel, views: list[TeacherView], config: TeacherConfig
) -> None:
    teacher = built(config, adapted)
    base = hidden_of(organism_in_float64().network, views)
    torch.testing.assert_close(teacher.hidden(views), base, atol=1e-12, rtol=0)
    for number in (1, 2, 3):
        move(adapted, number)
        teacher.follow(number)
    merged = organism_in_float64().network
    with torch.no_grad():
        for name, average in teacher.state().items():
            module = merged.get_submodule(name.removeprefix("base_model.model."))
            cast("torch.nn.Linear", module).weight += average.double()
    expected = hidden_of(merged, views)
    assert (expected - base).abs().max() > 1e-2
    torch.testing.assert_close(teacher.hidden(views), expected, atol=1e-10, rtol=0)


def test_reading_leaves_the_policy_as_it_was(
    adapted: PreTrainedModel, views: list[TeacherView]
) -> None:
    """Mode, gradients, hooks and adapter; the policy's own outputs are those of its own adapter."""
    move(adapted, 1)
    expected = hidden_of(adapted, views)
    for config in (TeacherConfig(kind="initial"), TeacherConfig(kind="live"), EMA):
        teacher = built(config, adapted)
        teacher.follow(1)
        adapted.train()
        assert not teacher.hidden(views).requires_grad
        assert adapted.training
        assert torch.is_grad_enabled()
        assert torch.equal(hidden_of(adapted, views), expected)
        assert any(weight.requires_grad for weight in adapted.parameters())


@pytest.mark.parametrize("config", [TeacherConfig(kind="live"), EMA, TeacherConfig(kind="initial")])
def test_a_teacher_reads_without_dropout(
    adapted: PreTrainedModel, views: list[TeacherView], config: TeacherConfig
) -> None:
    """The adapter drops half of its inputs while it trains, and the policy is in training."""
    teacher = built(config, adapted)
    move(adapted, 1)
    teacher.follow(1)
    adapted.train()
    with torch.no_grad():
        one, other = (completion_hidden(adapted, views) for _ in range(2))
    assert not torch.equal(one, other), "nothing was dropped"
    assert torch.equal(teacher.hidden(views), teacher.hidden(views))


@pytest.mark.parametrize("kind", ["full", "adapted"])
def test_a_state_goes_round(
    kind: str, views: list[TeacherView], request: pytest.FixtureRequest
) -> None:
    network: PreTrainedModel = request.getfixturevalue(kind)
    teacher, other = built(EMA, network), built(EMA, network)
    for number in (1, 2):
        move(network, number)
        teacher.follow(number)
    assert not torch.equal(other.hidden(views), teacher.hidden(views))
    other.restore({name: tensor.clone() for name, tensor in teacher.state().items()})
    assert torch.equal(other.hidden(views), teacher.hidden(views))
    move(network, 3)
    for one in (teacher, other):
        one.follow(3)
    for name, tensor in teacher.state().items():
        assert torch.equal(tensor, other.state()[name])


@pytest.mark.parametrize("kind", ["full", "adapted"])
def test_the_state_of_another_teacher_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    network: PreTrainedModel = request.getfixturevalue(kind)
    teacher = built(EMA, network)
    state = dict(teacher.state())
    name = sorted(state)[0]
    cut = {**state, name: state[name][:1]}
    foreign: list[dict[str, torch.Tensor]] = [{}, {**state, "x": torch.ones(1)}, cut]
    for strange in foreign:
        with pytest.raises(CheckpointError, match="another teacher's"):
            teacher.restore(strange)
    for config in (TeacherConfig(kind="initial"), TeacherConfig(kind="live")):
        built(config, network).restore({})
        with pytest.raises(CheckpointError, match="another teacher's"):
            built(config, network).restore(state)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head", "nothing"])
def test_an_adapter_goes_over_linear_layers_alone(tiny: Suite, target: str) -> None:
    """Not over the embedding, whose tied copy makes the logits, nor over the output layer."""
    lora = ADAPTER.model_copy(update={"targets": ["q_proj", target]})
    with pytest.raises(
        ConfigError, match=rf"lora\.targets: '{target}' is no.*allowed: down_proj, gate_proj"
    ):
        open_network(tiny.model_copy(update={"lora": lora}), SEED, None)


def test_all_conditions_of_a_seed_start_from_one_adapter(tiny: Suite) -> None:
    suite = tiny.model_copy(update={"lora": ADAPTER})
    one, same, other = (open_network(suite, seed, None).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    moved = {name for name in one if not torch.equal(one[name], other[name])}
    assert moved and all("lora_A" in name for name in moved)
