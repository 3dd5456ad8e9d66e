"""What every engine must keep to: the one that samples and the one that is scripted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from sdbench import models, plugins, prompts
from sdbench.engines import fake, hf
from sdbench.engines.base import Engine, EngineConfig, Request, Sampling, generate
from sdbench.errors import EngineError
from sdbench.models import Model
from sdbench.plugins import Kind
from sdbench.records import FinishReason

ENGINES = ("fake", "hf")
SCRIPT = {
    "*": ["<step_1>1+2=3</step_1><answer>3</answer>", "<answer>4</answer>"],
    "c": ["", "<step_1>"],
}
SAMPLING = Sampling(temperature=1.0, max_tokens=12, seed=0)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, organism: Model) -> Engine:
    if request.param == "fake":
        return fake.build(fake.Config(script=SCRIPT), organism)
    return hf.build(hf.Config(batch_rows=4), organism)


@pytest.fixture(scope="module")
def requests(organism: Model) -> list[Request]:
    problems = {"b": "1+2*3+4+5", "a": "1*2+3-4*5+6", "c": "9-8+7*6+5"}
    return [
        Request(name, prompts.solver(organism.tokenizer, "organism", problem), indices)
        for (name, problem), indices in zip(
            problems.items(), ((0, 1, 2), (3,), (1, 0)), strict=True
        )
    ]


def test_completions_come_in_order_of_requests_then_indices(
    engine: Engine, requests: list[Request]
) -> None:
    found = [(c.request_id, c.index) for c in generate(engine, requests, SAMPLING)]
    assert found == [("b", 0), ("b", 1), ("b", 2), ("a", 3), ("c", 1), ("c", 0)]


def test_a_completion_agrees_with_itself(
    engine: Engine, requests: list[Request], organism: Model
) -> None:
    for one in generate(engine, requests, SAMPLING):
        assert 1 <= len(one.token_ids) == len(one.logprobs) <= SAMPLING.max_tokens
        assert all(value <= 0 for value in one.logprobs)
        stopped = one.token_ids[-1] in organism.end_ids
        assert one.finish_reason is (FinishReason.STOP if stopped else FinishReason.LENGTH)
        assert stopped or len(one.token_ids) == SAMPLING.max_tokens
        ids = one.token_ids[:-1] if stopped else one.token_ids
        assert one.text == organism.tokenizer.decode(list(ids), skip_special_tokens=True)


def test_the_same_requests_give_the_same_completions(
    engine: Engine, requests: list[Request]
) -> None:
    first = {(c.request_id, c.index): c for c in generate(engine, requests, SAMPLING)}
    again = {(c.request_id, c.index): c for c in generate(engine, requests[::-1], SAMPLING)}
    assert {key: c.token_ids for key, c in first.items()} == {
        key: c.token_ids for key, c in again.items()
    }


def test_progress_counts_every_completion_once(engine: Engine, requests: list[Request]) -> None:
    counted: list[int] = []
    found = generate(engine, requests, SAMPLING, counted.append)
    assert sum(counted) == len(found) == 6


def test_nothing_asked_nothing_drawn(engine: Engine, requests: list[Request]) -> None:
    assert generate(engine, [], SAMPLING) == []
    assert generate(engine, [Request("a", requests[0].prompt_ids, ())], SAMPLING) == []


def test_the_model_is_the_one_it_was_built_with(engine: Engine, organism: Model) -> None:
    assert engine.model is organism


@pytest.mark.parametrize("name", plugins.names(Kind.ENGINE))
def test_an_engine_tells_its_room_without_a_start(name: str, organism: Model) -> None:
    """The model's; what is asked of it starts no process and speaks to no server."""
    module = plugins.load(Kind.ENGINE, name)
    engine = cast(Engine, module.build(module.Config(), organism))
    assert engine.max_length == organism.max_length == 512
    engine.close()


@pytest.mark.parametrize("name", plugins.names(Kind.ENGINE))
def test_an_engine_names_options_of_effort_that_it_has(name: str) -> None:
    config = plugins.load(Kind.ENGINE, name).Config
    assert issubclass(config, EngineConfig)
    assert config.effort <= config.model_fields.keys()


def test_a_stream_may_run_in_another_thread(engine: Engine, requests: list[Request]) -> None:
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(generate, engine, requests, SAMPLING).result()
    assert there == generate(engine, requests, SAMPLING)


@pytest.mark.parametrize("lora", [False, True], ids=["weights", "adapter"])
def test_a_model_under_training_is_sampled_as_it_is_now(
    requests: list[Request], lora: bool
) -> None:
    """The changed adapter, merged into its base by peft, gives the same completions."""
    torch.manual_seed(0)
    model = models.load("organism")
    if lora:
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        model = model.around(cast(PreTrainedModel, get_peft_model(model.network, config)))
    engine = hf.build(hf.Config(), model)
    assert engine.shares_weights
    engine.sync(model.network)
    assert engine.model is model
    before = generate(engine, requests, SAMPLING)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    engine.sync(model.network)
    after = generate(engine, requests, SAMPLING)
    assert [c.token_ids for c in after] != [c.token_ids for c in before]
    plain = model.network.merge_and_unload() if lora else model.network  # type: ignore[operator]
    other = hf.build(hf.Config(), models.load("organism"))
    other.sync(plain)
    assert other.model.network is plain
    assert [c.token_ids for c in generate(other, requests, SAMPLING)] == [
        c.token_ids for c in after
    ]


def test_the_scripted_engine_counts_the_weights_it_is_given(
    organism: Model, requests: list[Request]
) -> None:
    engine = fake.build(fake.Config(script=SCRIPT), organism)
    before = generate(engine, requests, SAMPLING)
    assert (engine.syncs, engine.shares_weights) == (0, False)
    engine.sync(organism.network)
    engine.sync(organism.network)
    assert engine.syncs == 2 and generate(engine, requests, SAMPLING) == before


@pytest.mark.parametrize("name", ENGINES)
def test_an_overlong_prompt_is_refused(name: str, organism: Model) -> None:
    module = plugins.load(Kind.ENGINE, name)
    engine = cast(Engine, module.build(module.Config(), organism))
    with pytest.raises(EngineError, match="long"):
        generate(engine, [Request("long", (1,) * 512, (0,))], SAMPLING)


@pytest.mark.parametrize("name", plugins.names(Kind.ENGINE))
def test_an_engine_plugin_has_options_and_a_summary(name: str) -> None:
    module = plugins.load(Kind.ENGINE, name)
    module.Config()
    assert callable(module.build)
    assert plugins.summary(Kind.ENGINE, name)


def test_the_script_goes_round_and_falls_back(organism: Model) -> None:
    """Sample 2 of two texts is text 0 again; `a` is not scripted and gets the texts under `*`."""
    engine = fake.build(fake.Config(script=SCRIPT), organism)
    found = generate(engine, [Request("a", (1,), (0, 1, 2)), Request("c", (1,), (1,))], SAMPLING)
    assert [c.text for c in found] == [SCRIPT["*"][0], SCRIPT["*"][1], SCRIPT["*"][0], "<step_1>"]


def test_a_request_without_a_script_is_refused_by_name(organism: Model) -> None:
    engine = fake.build(fake.Config(script={"a": ["x"]}), organism)
    with pytest.raises(EngineError, match="'b'"):
        generate(engine, [Request("b", (1,), (0,))], SAMPLING)
