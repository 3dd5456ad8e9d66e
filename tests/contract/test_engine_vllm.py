"""vLLM as an engine, with the tiny solver: where vLLM is installed (`make setup-vllm`).

One engine serves every test, since its start takes half a minute; the last tests change its model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import torch

from sdbench import models, prompts
from sdbench.engines import _ipc, hf, vllm
from sdbench.engines.base import Request, Sampling, generate
from sdbench.errors import EngineError
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    # vLLM and what it loads warn of their own use of torch.
    pytest.mark.filterwarnings("ignore"),
]
GREEDY = Sampling(temperature=0.0, max_tokens=64, seed=0)
WARM = Sampling(temperature=1.5, max_tokens=64, seed=3)
PROBLEMS = ("1+2*3+4+5", "1*2+3-4*5+6", "9-8+7*6+5")


@pytest.fixture(scope="module")
def engine(requests: list[Request]) -> Iterator[vllm.VLLMEngine]:
    """Started by a thread that ends, as one may that draws rollouts during an update."""
    made = vllm.build(vllm.Config(cpu_cache_gib=1), models.open_model("organism"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(texts, made, requests).result()
    yield made
    made.close()


@pytest.fixture(scope="module")
def requests(organism: Model) -> list[Request]:
    return [
        Request(text, prompts.solver(organism.tokenizer, "organism", text), tuple(range(6)))
        for text in PROBLEMS
    ]


@pytest.fixture(scope="module")
def long(organism: Model) -> list[Request]:
    """A prompt of several of the blocks in which vLLM keeps what it has read."""
    return [Request("long", prompts.solver(organism.tokenizer, "organism", PROBLEMS[0]) * 12, (0,))]


def texts(engine: vllm.VLLMEngine | hf.HFEngine, requests: list[Request]) -> list[str]:
    return [completion.text for completion in generate(engine, requests, GREEDY)]


def assert_samples(
    engine: vllm.VLLMEngine, network: PreTrainedModel | PeftModel, requests: list[Request]
) -> None:
    """That completions and log-probabilities, up to rounding, are the organism's with these weights."""
    exact = hf.build(hf.Config(), models.open_model("organism"))
    exact.sync(network)
    ours, theirs = (generate(either, requests, GREEDY) for either in (engine, exact))
    for one, other in zip(ours, theirs, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


@torch.no_grad()
def change(network: PreTrainedModel | PeftModel, seed: int) -> None:
    """An update, in place: of an adapter if there is one, else of all weights."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.add_(0.04 * torch.randn_like(parameter))


def adapted() -> PeftModel:
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=64, target_modules=targets, init_lora_weights=False)
    found = get_peft_model(models.load("organism").network, config)
    assert isinstance(found, PeftModel)
    return found


def cached_tokens(engine: vllm.VLLMEngine, requests: list[Request]) -> int:
    """How much of the prompts vLLM need not read, as it has them from before."""
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        usual = engine._completions

        def watched(span: Any, output: Any, *, greedy: bool) -> Iterator[Completion]:
            seen.append(output.num_cached_tokens)
            return usual(span, output, greedy=greedy)

        patch.setattr(engine, "_completions", watched)
        generate(engine, requests, GREEDY)
    return sum(seen)


def test_a_prompt_that_does_not_fit_is_refused_by_name_before_vllm_starts() -> None:
    fresh = vllm.build(vllm.Config(max_model_len=100), models.open_model("organism"))
    with pytest.raises(EngineError, match="prompt of long has 60 tokens"):
        generate(fresh, [Request("long", (1,) * 60, (0,))], GREEDY)
    fresh.close()


def test_greedy_completions_are_those_of_the_hf_engine(
    engine: vllm.VLLMEngine, requests: list[Request], organism: Model
) -> None:
    ours = generate(engine, requests, GREEDY)
    theirs = generate(hf.build(hf.Config(), organism), requests, GREEDY)
    assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
    assert [(c.request_id, c.index) for c in ours] == [(c.request_id, c.index) for c in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)


def test_samples_differ_from_each_other_and_come_again_alone(
    engine: vllm.VLLMEngine, requests: list[Request]
) -> None:
    """Samples 3, 4 and 1 of one prompt, drawn without the others, are what they were among them."""
    whole = {(c.request_id, c.index): c for c in generate(engine, requests, WARM)}
    assert len(whole) == 18
    assert all(len({whole[text, i].token_ids for i in range(6)}) > 1 for text in PROBLEMS)
    alone = Request(PROBLEMS[1], requests[1].prompt_ids, (3, 4, 1))
    assert [c.index for c in generate(engine, [alone], WARM)] == [3, 4, 1]
    for one in generate(engine, [alone], WARM):
        assert one.token_ids == whole[one.request_id, one.index].token_ids
    other_seed = generate(engine, requests, Sampling(1.5, 64, 4))
    assert any(c.token_ids != whole[c.request_id, c.index].token_ids for c in other_seed)


def test_logprobs_are_of_the_distribution_drawn_from(
    engine: vllm.VLLMEngine, requests: list[Request], organism: Model
) -> None:
    for one in generate(engine, requests[:1], WARM):
        view = models.student_view(requests[0].prompt_ids, one.token_ids)
        logits_NV = models.completion_logits(organism.network, [view]) / WARM.temperature
        ids_N1 = torch.tensor(one.token_ids)[:, None]
        expected = logits_NV.log_softmax(-1).gather(-1, ids_N1)[:, 0].tolist()
        assert one.logprobs == pytest.approx(expected, abs=1e-4)
    unasked = generate(engine, requests[:1], Sampling(1.5, 64, 3, logprobs=False))
    assert all(one.logprobs == () for one in unasked)


def test_a_completion_cut_at_the_cap_says_so(
    engine: vllm.VLLMEngine, requests: list[Request]
) -> None:
    for one in generate(engine, requests, Sampling(0.8, 3, 3)):
        assert (one.finish_reason, one.tokens) == (FinishReason.LENGTH, 3)


def test_another_checkpoint_is_served_without_a_restart(
    engine: vllm.VLLMEngine, requests: list[Request], tmp_path: Path
) -> None:
    """Its completions are those of the hf engine; back again, the first model's are as before."""
    before = texts(engine, requests)
    started = engine._engine
    changed = models.load("organism")
    change(changed.network, 0)
    changed.network.save_pretrained(tmp_path)
    changed.tokenizer.save_pretrained(tmp_path)
    other = models.open_model(str(tmp_path))
    engine.switch(other)
    assert_samples(engine, changed.network, requests)
    assert texts(engine, requests) != before
    engine.switch(models.open_model("organism"))
    assert texts(engine, requests) == before
    assert engine._engine is started


def test_weights_under_training_are_taken_over_without_a_restart(
    engine: vllm.VLLMEngine, requests: list[Request], long: list[Request]
) -> None:
    """Twice, since the weights change in place; nothing is left of what was read with older ones."""
    before, started = texts(engine, requests), engine._engine
    network = models.load("organism").network
    engine.sync(network)
    assert texts(engine, requests) == before
    for seed in (1, 2):
        generate(engine, long, GREEDY)
        assert cached_tokens(engine, long) >= 128
        change(network, seed)
        engine.sync(network)
        assert cached_tokens(engine, long) == 0
        assert_samples(engine, network, [*long, *requests])
        assert texts(engine, requests) != before
    assert engine._engine is started
    engine.switch(models.open_model("organism"))
    assert texts(engine, requests) == before


def test_an_adapter_under_training_is_swapped_and_the_one_before_forgotten(
    engine: vllm.VLLMEngine, requests: list[Request], long: list[Request]
) -> None:
    """vLLM starts anew at the first, to make room for adapters."""
    before = texts(engine, requests)
    network = adapted()
    engine.sync(network)
    started = engine._engine
    assert started is not None
    folders = []
    for seed in (1, 2):
        generate(engine, long, GREEDY)
        change(network, seed)
        engine.sync(network)
        assert cached_tokens(engine, long) == 0
        assert_samples(engine, network, [*long, *requests])
        assert texts(engine, requests) != before
        assert engine._synced is not None
        assert list(engine._run(started.list_loras())) == [engine._synced.request.lora_int_id]
        folders.append(Path(engine._synced.folder.name))
    assert [folder.exists() for folder in folders] == [False, True]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(texts, engine, requests).result() == texts(engine, requests)
    assert engine._engine is started
    engine.switch(models.open_model("organism"))
    assert texts(engine, requests) == before
    assert not folders[1].exists()


def test_an_adapter_is_served_over_its_base(
    engine: vllm.VLLMEngine, requests: list[Request], tmp_path: Path
) -> None:
    base = texts(engine, requests)
    adapted().save_pretrained(str(tmp_path))
    adapter = models.open_model(str(tmp_path))
    engine.switch(adapter)
    assert_samples(engine, adapter.network, requests)
    assert texts(engine, requests) != base
    engine.switch(models.open_model("organism"))
    assert texts(engine, requests) == base


def test_what_is_sent_within_a_gpu_is_what_vllm_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own sender, with its GPU buffer replaced, calls for what its receiver understands."""
    from vllm.distributed.weight_transfer import ipc_engine
    from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk

    handle = {"gpu": (torch.Tensor, (3,), torch.float32, b"address")}
    sizes: list[int] = []

    def chunks(iterator: Any, buffer_size_bytes: int, **_: object) -> Iterator[PackedIpcChunk]:
        sizes.append(buffer_size_bytes)
        for name, tensor in iterator:
            kind = str(tensor.dtype).removeprefix("torch.")
            yield PackedIpcChunk([name], [list(tensor.shape)], [kind], [tensor.nbytes], handle)

    calls: list[tuple[str, dict[str, Any]]] = []
    network = models.load("organism").network
    monkeypatch.setattr(ipc_engine, "packed_ipc_producer", chunks)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Mock(uuid="gpu"))
    monkeypatch.setattr(torch.cuda, "ipc_collect", lambda: None)
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    _ipc.send(lambda method, arguments: calls.append((method, arguments)), network, "bfloat16")
    names = [name for name, _ in network.named_parameters()]
    updates = ["update_weights"] * len(names)
    wanted = [
        "init_weight_transfer_engine",
        "start_weight_update",
        *updates,
        "finish_weight_update",
    ]
    assert [method for method, _ in calls] == wanted
    assert sizes == [_ipc.BUFFER_BYTES]
    assert ipc_engine.IPCWeightTransferInitInfo(**calls[0][1]["init_info"]).packed
    received = [
        ipc_engine.IPCWeightTransferUpdateInfo(**arguments["update_info"])
        for method, arguments in calls
        if method == "update_weights"
    ]
    assert [one.names for one in received] == [[name] for name in names]
    assert all(one.ipc_handles == handle for one in received)
    assert {kind for one in received for kind in one.dtype_names} == {"bfloat16"}
