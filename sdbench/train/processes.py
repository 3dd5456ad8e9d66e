"""What several processes of one run share: who does what, and everything joined again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from sdbench.config import Suite
from sdbench.errors import ConfigError, SdbenchError
from sdbench.train.network import mixed_precision

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState
    from accelerate.utils import FullyShardedDataParallelPlugin
    from transformers import PreTrainedModel

T = TypeVar("T")
TENSORBOARD = "tensorboard"
PATIENCE = timedelta(hours=4)
_GROUPS: list[object] = []
UNKNOWN = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}


def open_state() -> PartialState:
    """Which process this is and how many there are, before there is an accelerator.

    A process may wait long for another: for its rollouts, a warm-up, a large checkpoint.

    Raises:
        ConfigError: several processes were started that do not know of each other.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Without a GPU accelerate takes each process for the only one, unless it is told.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not _has_accelerator()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes < started:
        raise ConfigError(
            f"{started} processes were started, and accelerate knows of {state.num_processes}",
            hint="on a machine without GPUs of its own: ACCELERATE_USE_CPU=true",
        )
    return state


def _has_accelerator() -> bool:
    """Whether there is an accelerator that training can use."""
    # Apple's MPS has no float64, in which weights and sums of losses are.
    found = torch.accelerator.current_accelerator(check_available=True)
    return found is not None and found.type != "mps"


def open_accelerator(suite: Suite, folder: Path) -> Accelerator:
    """The accelerator of this process, as `accelerate launch` or a plain start gives it.

    Raises:
        ConfigError: a tracker that accelerate does not know, or whose package is missing; a way to
            share the work among processes that training does not have.
    """
    from accelerate import Accelerator
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration

    known = sorted(LOGGER_TYPE_TO_CLASS)
    there = {str(tracker) for tracker in get_available_trackers()}
    for name in suite.train.trackers:
        if name not in known:
            raise ConfigError(
                f"train.trackers: unknown tracker {name!r}; allowed: {', '.join(known)}"
            )
        if name not in there:
            raise ConfigError(
                f"train.trackers: {name!r} is not installed", hint=f"pip install {name}"
            )
    open_state()
    sharding = sharding_plugin(mixed_precision(suite))
    accelerator = Accelerator(
        mixed_precision=mixed_precision(suite),
        fsdp_plugin=sharding,
        # A policy cuts its updates into micro-batches itself, whatever the launcher says.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=list(suite.train.trackers) or None,
        project_config=ProjectConfiguration(
            project_dir=str(folder), logging_dir=str(folder / TENSORBOARD)
        ),
    )
    if sharding and accelerator.num_processes > 1 and not is_sharded(accelerator):
        raise ConfigError(
            "accelerate shards weights on GPUs only; there are none, or --cpu was given",
            hint="on CPU leave out --use_fsdp: each process then has all weights",
        )
    return accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a shard of every weight."""
    return bool(accelerator.is_fsdp2)


def start_trackers(accelerator: Accelerator, run: str, update: int) -> None:
    """Opens the trackers; what TensorBoard holds of later updates is dropped.

    Args:
        accelerator: From `open_accelerator`.
        run: What the run is called.
        update: The last update that it has.
    """
    options = {TENSORBOARD: {"purge_step": update + 1}, "wandb": {"name": run}}
    accelerator.init_trackers("sdbench", init_kwargs=options)


def rounded_as_shards(network: PreTrainedModel, accelerator: Accelerator) -> PreTrainedModel:
    """A frozen network whose weights have the type in which shards of the policy's are gathered.

    It then rounds as the policy does, and takes half the memory. Buffers stay as they are, as those of
    the policy do.
    """
    if is_sharded(accelerator) and accelerator.mixed_precision == "bf16":
        for weight in network.parameters():
            weight.data = weight.data.bfloat16()
    return network


def by_the_first(work: Callable[[], None], accelerator: Accelerator) -> None:
    """Has the first process do something, such as writing, for which the others wait.

    Raises:
        SdbenchError: the first process failed so; every process then does.
    """
    fault: SdbenchError | None = None
    if accelerator.is_main_process:
        try:
            work()
        except SdbenchError as error:
            fault = error
    if (first := gathered(fault, accelerator)[0]) is not None:
        raise first


def close(accelerator: Accelerator) -> None:
    """Ends the trackers and the group of processes.

    Gloo joins its threads when the last reference to the group goes. One of them may then be waiting
    for the interpreter, to drop a tensor that it has sent; if the interpreter is what lets go, both
    wait for ever. So the group stays until this process ends, when all its threads are idle.
    """
    if accelerator.num_processes > 1:
        _GROUPS.append(torch.distributed.group.WORLD)
    accelerator.end_training()


def share(turns: Sequence[T], accelerator: Accelerator) -> list[T]:
    """This process's part of an update's problems."""
    return list(turns[accelerator.process_index :: accelerator.num_processes])


def joined(own: Sequence[T], accelerator: Accelerator) -> list[T]:
    """The parts of all processes in the order of the whole; undoes `share`."""
    parts = gathered(list(own), accelerator)
    longest = max(map(len, parts))
    return [part[row] for row in range(longest) for part in parts if row < len(part)]


def gathered(own: T, accelerator: Accelerator) -> list[T]:
    """What each process has, in their order."""
    if accelerator.num_processes == 1:
        return [own]
    from accelerate.utils import gather_object

    return cast("list[T]", gather_object([own]))


def any_asks(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process says so."""
    return any(gathered(asked, accelerator))


def sharding_plugin(precision: str) -> FullyShardedDataParallelPlugin | None:
    """How `accelerate launch --use_fsdp` wants weights sharded; None if it does not.

    Layers are gathered one by one unless the launcher says otherwise. Every process reads all
    weights, since each may need a whole copy for a teacher. Products may be in bfloat16; what they
    give, and gradients on their way between processes, stays as it is.

    Raises:
        ConfigError: the launcher asks for what training does not have.
    """
    from accelerate.utils import FullyShardedDataParallelPlugin, parse_flag_from_env

    for variable, name in UNKNOWN.items():
        if parse_flag_from_env(variable):
            raise ConfigError(f"accelerate is set to {name}; allowed: one process, DDP, FSDP2")
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return None
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy

    plugin = FullyShardedDataParallelPlugin(
        cpu_ram_efficient_loading=False,
        auto_wrap_policy=os.environ.get("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"),
    )
    if plugin.fsdp_version != 2:
        raise ConfigError("FSDP 1 is not supported", hint="accelerate launch --fsdp_version 2")
    if plugin.activation_checkpointing:
        raise ConfigError(
            "--fsdp_activation_checkpointing would rename the weights",
            hint="--set train.gradient_checkpointing=true",
        )
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise ConfigError("--fsdp_offload_params is not supported")
    if precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    return plugin
