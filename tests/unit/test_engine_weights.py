"""Weights of a model under training as files: what is read back is what was trained, rounded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from sdbench import models
from sdbench.engines import _weights

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def network() -> PreTrainedModel:
    return models.load("organism").network


def adapted(network: PreTrainedModel, name: str = "default", rank: int = 4) -> PeftModel:
    config = LoraConfig(r=rank, target_modules=["q_proj"], init_lora_weights=False)
    return cast(PeftModel, get_peft_model(network, config, adapter_name=name))


def test_tied_weights_are_rounded_to_what_is_served_and_written_once(
    network: PreTrainedModel, tmp_path: Path
) -> None:
    _weights.write_weights(network, tmp_path, "bfloat16")
    written = load_file(tmp_path / "model.safetensors")
    wanted = {name: value.bfloat16() for name, value in network.named_parameters()}
    assert EMBEDDINGS in written and HEAD not in written
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)
    assert network.dtype == torch.float32
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_untied_weights_are_both_written(network: PreTrainedModel, tmp_path: Path) -> None:
    network.config.tie_word_embeddings = False
    network.lm_head.weight = torch.nn.Parameter(2 * network.lm_head.weight.detach())
    _weights.write_weights(network, tmp_path, "float32")
    written = load_file(tmp_path / "model.safetensors")
    assert torch.equal(written[HEAD], 2 * written[EMBEDDINGS])


def test_a_weight_that_is_kept_in_another_type_stays_in_it(
    network: PreTrainedModel, tmp_path: Path
) -> None:
    """As routers are kept in float32 within a bfloat16 model."""
    network.model.norm.double()
    _weights.write_weights(network, tmp_path, "bfloat16")
    kinds = {name: value.dtype for name, value in load_file(tmp_path / "model.safetensors").items()}
    assert kinds.pop("model.norm.weight") == torch.float64
    assert set(kinds.values()) == {torch.bfloat16}


def test_transformers_reads_the_folder(network: PreTrainedModel, tmp_path: Path) -> None:
    _weights.write_weights(network, tmp_path, "float32")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.arange(12)[None]
    assert torch.equal(read(ids).logits, network(ids).logits)


def test_only_the_adapter_is_written_whoever_put_it_there(
    network: PreTrainedModel, tmp_path: Path
) -> None:
    assert not _weights.is_adapted(network)
    by_peft = adapted(network)
    assert _weights.is_adapted(by_peft)
    assert _weights.write_adapter(by_peft, tmp_path / "peft") == tmp_path / "peft"
    by_transformers = models.load(str(tmp_path / "peft")).network
    assert _weights.is_adapted(by_transformers)
    _weights.write_adapter(by_transformers, tmp_path / "again")
    one, other = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("peft", "again"))
    assert one.keys() == other.keys() and all("lora_" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_of_several_adapters_the_active_one_is_written(
    network: PreTrainedModel, tmp_path: Path
) -> None:
    network_ = adapted(network, "student")
    network_.add_adapter("other", LoraConfig(r=2, target_modules=["k_proj"]))
    folder = _weights.write_adapter(network_, tmp_path)
    assert folder == tmp_path / "student"
    assert [path.parent for path in tmp_path.rglob("adapter_config.json")] == [folder]


@pytest.mark.parametrize(("rank", "kernels"), [(1, 8), (8, 8), (9, 16), (64, 64), (100, 128)])
def test_the_rank_is_one_that_vllm_has_kernels_for(rank: int, kernels: int, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert _weights.adapter_rank(tmp_path) == kernels


def test_weights_go_to_memory_where_there_is_room_and_leave_nothing(
    network: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory there must be room for twice their size."""
    size = 2 * sum(weight.numel() for weight in network.parameters())
    monkeypatch.setattr(_weights, "MEMORY", tmp_path)
    for free, inside in ((2 * size + 1, True), (2 * size, False)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        with _weights.folder_for(network, "bfloat16") as folder:
            assert (Path(folder).parent == tmp_path) is inside
            _weights.write_weights(network, Path(folder), "bfloat16")
        assert not Path(folder).exists()
    monkeypatch.setattr(_weights, "MEMORY", tmp_path / "no such folder")
    with _weights.folder_for(network, "bfloat16") as folder:
        assert Path(folder).is_dir()
