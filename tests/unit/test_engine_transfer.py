"""What the vLLM engine asks of vLLM when weights are trained, with a stand-in for vLLM.

Whether vLLM then samples these weights is tested with vLLM itself, in `test_engine_vllm`.
"""

from __future__ import annotations

import base64
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

from sdbench import models
from sdbench.engines import _ipc, vllm
from sdbench.errors import EngineError

PACKAGE = "vllm.distributed.weight_transfer"
HANDLE = {"gpu": ("address", 1)}


@dataclass
class StandIn:
    """Remembers what it is told; nothing is sampled."""

    rank: int
    by_ipc: bool
    calls: list[str] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    loaded: dict[str, torch.Tensor] = field(default_factory=dict)
    adapters: dict[int, Any] = field(default_factory=dict)
    idle: bool = True
    ended: bool = False

    async def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        self.calls.append(method)
        self.arguments.append(kwargs)
        if method == "reload_weights":
            self.loaded = load_file(Path(kwargs["weights_path"], "model.safetensors"))

    async def reset_prefix_cache(self) -> bool:
        self.calls.append("reset_prefix_cache")
        return self.idle

    async def add_lora(self, request: Any) -> None:
        assert Path(request.lora_path, "adapter_model.safetensors").is_file()
        self.adapters[request.lora_int_id] = request

    async def remove_lora(self, number: int) -> None:
        del self.adapters[number]

    def shutdown(self) -> None:
        self.ended = True


@dataclass
class Sender:
    """As vLLM's own: one buffer after another, each read before the next is filled."""

    information: Any
    client: Any
    source: Any

    def send_weights(self) -> None:
        self.client.start_weight_update()
        for name, tensor in self.source:
            kind = str(tensor.dtype).removeprefix("torch.")
            told = {"names": [name], "dtype_names": [kind], "shapes": [list(tensor.shape)]}
            self.client.update_weights(told | {"ipc_handles": HANDLE, "ipc_handles_pickled": None})
        self.client.finish_weight_update()


def trainer_init(information: Any, *, client: Any, source: Any) -> Sender:
    client.init_weight_transfer_engine({"packed": information.packed})
    return Sender(information, client, source)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """vLLM's modules, as far as they are asked for."""
    found = SimpleNamespace(WeightTransferTrainerFactory=SimpleNamespace(trainer_init=trainer_init))
    platforms = SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: True))
    monkeypatch.setitem(sys.modules, PACKAGE, cast(Any, found))
    information = SimpleNamespace(IPCTrainerInitInfo=SimpleNamespace)
    monkeypatch.setitem(sys.modules, f"{PACKAGE}.ipc_engine", cast(Any, information))
    monkeypatch.setitem(sys.modules, "vllm.platforms", cast(Any, platforms))
    request = SimpleNamespace(LoRARequest=lora_request)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", cast(Any, request))
    return found


def lora_request(name: str, number: int, path: str) -> SimpleNamespace:
    return SimpleNamespace(lora_name=name, lora_int_id=number, lora_path=path)


Make = Callable[..., vllm.VLLMEngine]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, package: SimpleNamespace) -> list[StandIn]:
    """Every stand-in that was started, in order."""
    made: list[StandIn] = []

    def start(engine: vllm.VLLMEngine) -> StandIn:
        made.append(StandIn(engine._max_rank, engine._by_ipc))
        return made[-1]

    monkeypatch.setattr(vllm.VLLMEngine, "_start", start)
    return made


@pytest.fixture
def engine() -> Iterator[Make]:
    """Makes engines; they end with the test."""
    made: list[vllm.VLLMEngine] = []

    def make(**options: Any) -> vllm.VLLMEngine:
        made.append(vllm.build(vllm.Config(**options), models.open_model("organism", "bfloat16")))
        return made[-1]

    yield make
    for one in made:
        one.close()


def adapted(rank: int) -> PeftModel:
    config = LoraConfig(r=rank, target_modules=["q_proj"], init_lora_weights=False)
    return cast(PeftModel, get_peft_model(models.load("organism").network, config))


@pytest.mark.parametrize(("cap", "room"), [(None, 512), (300, 300), (9999, 512)])
def test_room_is_the_smaller_of_the_models_and_what_is_allowed(
    started: list[StandIn], engine: Make, cap: int | None, room: int
) -> None:
    """The tiny solver reads 512 tokens; nobody starts vLLM to be told."""
    assert engine(max_model_len=cap).max_length == room
    assert started == []


def test_all_weights_are_reloaded_from_files_that_are_gone_afterwards(
    started: list[StandIn], engine: Make
) -> None:
    """Float32 masters arrive in the bfloat16 that is served; then no older prefix is left."""
    solver, network = engine(), models.load("organism").network
    for _ in range(2):
        solver.sync(network)
        with torch.no_grad():
            network.model.norm.weight.add_(1)
    (stand_in,) = started
    assert (stand_in.rank, stand_in.by_ipc) == (0, False)
    assert stand_in.calls == ["reload_weights", "repack_output_layer", "reset_prefix_cache"] * 2
    folders = [Path(one["weights_path"]) for one in stand_in.arguments if one]
    assert len(set(folders)) == 2 and not any(folder.exists() for folder in folders)
    expected = (network.model.norm.weight.detach() - 1).bfloat16()
    assert torch.equal(stand_in.loaded["model.norm.weight"], expected)


def test_after_training_the_models_own_weights_are_read_again(
    started: list[StandIn], engine: Make
) -> None:
    solver = engine()
    solver.sync(models.load("organism").network)
    solver.switch(models.open_model("organism", "bfloat16"))
    paths = [one["weights_path"] for one in started[0].arguments if one]
    assert paths[-1] == models.source_of("organism") != paths[0]
    solver.switch(models.open_model("organism", "bfloat16"))
    assert len([one for one in started[0].arguments if one]) == 2, "it has them"


def test_adapters_come_under_new_names_and_do_not_pile_up(
    started: list[StandIn], engine: Make
) -> None:
    """Rank 4 starts vLLM with room for 8; only rank 9 needs a new start, with room for 16."""
    solver = engine()
    small = adapted(4)
    names = set()
    for _ in range(3):
        solver.sync(small)
        (request,) = started[0].adapters.values()
        assert cast(Any, solver._adapter()) is request
        names.add((request.lora_name, request.lora_int_id, request.lora_path))
    assert [len(set(column)) for column in zip(*names, strict=True)] == [3, 3, 3]
    assert sum(Path(path).exists() for _, _, path in names) == 1
    assert started[0].calls == ["reset_prefix_cache"] * 3
    solver.sync(adapted(9))
    assert [one.rank for one in started] == [8, 16] and started[0].ended
    (last,) = started[1].adapters.values()
    solver.switch(models.open_model("organism", "bfloat16"))
    assert started[1].adapters == {} and solver._adapter() is None
    assert not any(Path(path).exists() for path in (request.lora_path, last.lora_path))


def test_an_adapter_is_served_over_the_weights_it_was_trained_over(
    started: list[StandIn], engine: Make
) -> None:
    solver = engine(max_lora_rank=32)
    network = adapted(4)
    solver.sync(network)
    solver.sync(models.load("organism").network)
    assert started[0].adapters == {} and solver._adapter() is None
    solver.sync(network)
    assert len(started) == 1 and started[0].rank == 32
    paths = [one["weights_path"] for one in started[0].arguments if one]
    assert paths[-1] == models.source_of("organism") != paths[0]


def test_closing_takes_the_adapter_off_the_disk(started: list[StandIn], engine: Make) -> None:
    solver = engine()
    solver.sync(adapted(4))
    (request,) = started[0].adapters.values()
    solver.close()
    assert started[0].ended and not Path(request.lora_path).exists()


def test_weights_do_not_change_under_a_stream(started: list[StandIn], engine: Make) -> None:
    solver, network = engine(), models.load("organism").network
    solver.sync(network)
    started[0].idle = False
    with pytest.raises(EngineError, match="still under way"):
        solver.sync(network)


def test_what_vllm_says_against_an_adapter_is_passed_on(
    started: list[StandIn], engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(stand_in: StandIn, request: Any) -> None:
        raise RuntimeError("vLLM only supports modules_to_save being None")

    monkeypatch.setattr(StandIn, "add_lora", refuse)
    solver = engine()
    with pytest.raises(EngineError, match=r"does not take over.*modules_to_save"):
        solver.sync(adapted(4))


def test_weights_within_a_gpu_are_sent_and_not_written(
    started: list[StandIn], engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ipc, "is_possible", lambda network: True)
    solver, network = engine(transfer="ipc"), models.load("organism").network
    names = [name for name, _ in network.named_parameters()]
    one = ["init_weight_transfer_engine", "start_weight_update", *["update_weights"] * len(names)]
    one += ["finish_weight_update", "reset_prefix_cache"]
    for _ in range(2):
        solver.sync(network)
    (stand_in,) = started
    assert stand_in.by_ipc and stand_in.calls == one * 2
    assert stand_in.arguments[0] == {"init_info": {"packed": True}}
    told = [asked["update_info"] for asked in stand_in.arguments if "update_info" in asked]
    assert [asked["names"][0] for asked in told] == names * 2, "tied weights go once"
    assert {asked["dtype_names"][0] for asked in told} == {"bfloat16"}
    assert all("ipc_handles" not in asked for asked in told)
    assert pickle.loads(base64.b64decode(told[0]["ipc_handles_pickled"])) == HANDLE


def test_where_nothing_is_shared_weights_go_by_files(
    started: list[StandIn], engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This network lies on no GPU; and with two GPUs to a model vLLM has one that it does not."""
    network = models.load("organism").network
    engine(transfer="ipc").sync(network)
    monkeypatch.setattr(_ipc, "is_possible", lambda network: True)
    engine(transfer="ipc", tensor_parallel_size=2).sync(network)
    engine(transfer="files").sync(network)
    assert [one.by_ipc for one in started] == [False] * 3
    assert all(one.calls[0] == "reload_weights" for one in started)


def on_gpu(index: int | None = 0, conversions: list[object] | None = None) -> PreTrainedModel:
    device = SimpleNamespace(type="cuda", index=index)
    return cast(PreTrainedModel, SimpleNamespace(device=device, _weight_conversions=conversions))


def test_weights_can_be_sent_within_the_first_gpu_alone(
    package: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _ipc.is_possible(on_gpu()) and _ipc.is_possible(on_gpu(None, []))
    assert not _ipc.is_possible(models.load("organism").network)
    assert not _ipc.is_possible(on_gpu(1))
    assert not _ipc.is_possible(on_gpu(0, [object()])), "its names are not the checkpoint's"
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        assert not _ipc.is_possible(on_gpu())
    del package.WeightTransferTrainerFactory
    assert not _ipc.is_possible(on_gpu()), "another vLLM"
