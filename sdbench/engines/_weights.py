"""The weights of a model under training as files, for engines that keep a copy of their own.

All weights are written as a folder in transformers layout, an adapter as a folder in peft's. Tied
weights are written once, as transformers does, and rounded to the type that is served. Where processes
hold shards, each of them writes all, and all must write at the same time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from sdbench.models import Dtype
from sdbench.rundir import read_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    Network = PreTrainedModel | PeftModel

MEMORY = Path("/dev/shm")
# What lies in memory must leave as much again to whoever reads it.
ROOM = 2
LEAST_RANK = 8


def is_adapted(network: Network) -> bool:
    """Whether LoRA adapters lie over the weights, put there by peft or by transformers."""
    return bool(getattr(network, "peft_config", None))


def write_weights(network: PreTrainedModel, folder: Path, dtype: Dtype) -> None:
    """Writes all weights in transformers layout.

    Args:
        network: The model.
        folder: Where to.
        dtype: Weights of the network's own type are rounded to this one; those that it holds in
            another keep theirs.
    """
    copies: dict[int, torch.Tensor] = {}
    state = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        # Tied weights stay one tensor, so that they are seen to be tied.
        if id(tensor) not in copies:
            served = served_dtype(network, tensor, dtype)
            copies[id(tensor)] = whole(tensor).to("cpu", served)
        state[name] = copies[id(tensor)]
    with _writing(network):
        network.save_pretrained(folder, state_dict=state)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, without gradient, also where each process holds a shard."""
    gather = getattr(tensor, "full_tensor", None)
    found: torch.Tensor = tensor.detach() if gather is None else gather().detach()
    return found


def served_dtype(network: PreTrainedModel, tensor: torch.Tensor, dtype: Dtype) -> torch.dtype:
    """The type in which a tensor of the network is handed over."""
    import torch

    wanted: torch.dtype = getattr(torch, dtype)
    return wanted if tensor.dtype == network.dtype else tensor.dtype


def write_adapter(network: Network, folder: Path) -> Path:
    """Writes the active adapter and nothing below it.

    Args:
        network: The adapted model.
        folder: Where to.

    Returns:
        The folder with `adapter_config.json`, which is `folder` or in it.
    """
    if not hasattr(network, "get_base_model"):
        network.save_pretrained(str(folder))
        return folder
    name = cast(str, network.active_adapter)
    state = {n: whole(weight) for n, weight in network.named_parameters() if f".{name}." in n}
    # Asked whether to save embeddings too, peft would look up the base model's at the hub.
    network.save_pretrained(
        str(folder), selected_adapters=[name], save_embedding_layers=False, state_dict=state
    )
    return folder if name == "default" else folder / name


def adapter_rank(folder: str | Path) -> int:
    """The smallest rank that vLLM has kernels for and that holds the adapter."""
    rank = int(str(read_json(Path(folder, "adapter_config.json"))["r"]))
    return max(LEAST_RANK, 1 << (rank - 1).bit_length())


def folder_for(network: PreTrainedModel, dtype: Dtype) -> TemporaryDirectory[str]:
    """A temporary folder for all weights: in memory where there is room, else on disk."""
    import torch

    weights = sum(weight.numel() for weight in network.parameters())
    size = weights * cast(torch.dtype, getattr(torch, dtype)).itemsize
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM * size
    return TemporaryDirectory(prefix="sdbench-", dir=MEMORY if roomy else None)


@contextmanager
def _writing(network: PreTrainedModel) -> Iterator[None]:
    """Has transformers write in every process: by itself it does so in the first one only."""
    network.__dict__["should_save_on_this_rank"] = lambda is_main_process: is_main_process
    try:
        yield
    finally:
        del network.__dict__["should_save_on_this_rank"]
