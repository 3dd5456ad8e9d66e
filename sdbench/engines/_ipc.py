"""vLLM's own transfer of weights within a GPU, where vLLM and the network under training share one.

The network's weights go through a buffer that both processes see, packed one after the other, so
that nothing is written to disk and only the buffer is held twice.

Source: vLLM 0.32, `vllm.distributed.weight_transfer`, backend `ipc`.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from sdbench.engines._weights import served_dtype
from sdbench.models import Dtype

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BACKEND = "ipc"
BUFFER_BYTES = 2**28
WIDEST = 4  # Bytes of a float32.
# The buffer's address in the GPU travels as a pickle, which vLLM otherwise refuses.
ENVIRONMENT = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
Json = dict[str, object]
Call = Callable[[str, Json], None]


def is_possible(network: PreTrainedModel) -> bool:
    """Whether a network lies on the first GPU, in one process, under the names of its checkpoint.

    vLLM runs on the first GPU that this process sees, and must have this interface.
    """
    import torch

    if network.device.type != "cuda" or network.device.index not in (None, 0):
        return False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    if getattr(network, "_weight_conversions", None):
        return False
    try:
        _ = import_module("vllm.distributed.weight_transfer").WeightTransferTrainerFactory
        _ = import_module("vllm.distributed.weight_transfer.ipc_engine").IPCTrainerInitInfo
    except (ImportError, AttributeError):
        return False
    return True


def send(call: Call, network: PreTrainedModel, dtype: Dtype) -> None:
    """Has vLLM take over a network's weights.

    Args:
        call: Calls a method of vLLM's workers, by name and keyword arguments.
        network: The model.
        dtype: Weights of the network's own type are rounded to this one on the way.
    """
    package = import_module("vllm.distributed.weight_transfer")
    ipc = import_module("vllm.distributed.weight_transfer.ipc_engine")
    source = _Source(network, dtype)
    # No weight may be larger than the buffer.
    size = max([BUFFER_BYTES, *(weight.numel() * WIDEST for weight in network.parameters())])
    information = ipc.IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=size)
    sender = package.WeightTransferTrainerFactory.trainer_init(
        information, client=_Client(call), source=source
    )
    sender.send_weights()


class _Source:
    """Every weight with its name, tied ones once, each time anew."""

    def __init__(self, network: PreTrainedModel, dtype: Dtype) -> None:
        self._network, self._dtype = network, dtype

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in self._network.named_parameters():
            yield name, weight.detach().to(served_dtype(self._network, weight, self._dtype))


class _Client:
    """The four calls that vLLM's sender makes, as calls of its workers."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def init_weight_transfer_engine(self, init_info: Json) -> None:
        self._call("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._call("start_weight_update", {})

    def update_weights(self, update_info: Json) -> None:
        handles = base64.b64encode(pickle.dumps(update_info["ipc_handles"])).decode()
        rest = {name: value for name, value in update_info.items() if name != "ipc_handles"}
        self._call("update_weights", {"update_info": rest | {"ipc_handles_pickled": handles}})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("finish_weight_update", {})
