"""Several processes of a run do together what one does alone: rollouts, losses, files and endings.

All on CPU over gloo. What runs on GPUs over NCCL is the same code, but no test here sees it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from processes_fixture import quick_processes
from safetensors.torch import load_file
from training_fixture import ADAPTER, SEED, ignore, log_of, make_items, objective, short, with_train

from sdbench import assembly, models
from sdbench.cli import main
from sdbench.conditions.base import resolve
from sdbench.config import Suite
from sdbench.engines import _weights
from sdbench.errors import ConfigError
from sdbench.models import Model
from sdbench.rundir import Row, RunDir, read_json, read_rows
from sdbench.train import checkpoint, loop, processes
from sdbench.train.batch import Item
from sdbench.train.checkpoint import TrainingState
from sdbench.train.ledger import Ledger
from sdbench.train.loop import train
from sdbench.train.network import initial_network, mixed_precision, open_network
from sdbench.train.policy import Policy

if TYPE_CHECKING:
    from accelerate import Accelerator

pytestmark = pytest.mark.slow

RANKS = 2
SECONDS = 100  # Until processes that wait for each other are taken to do so for ever.


def as_rank(
    rank: int, port: int, log: Path, work: Callable[..., object], args: Sequence[object]
) -> None:
    """A process as torchrun and accelerate start it; what it prints goes to a file."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS}
    os.environ.update({name: str(number) for name, number in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (ends with the process)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    torch.set_num_threads(1)
    work(*args)


def start(logs: Path, work: Callable[..., object], *args: object) -> list[BaseProcess]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[BaseProcess] = []
    for rank in range(RANKS):
        parts = (rank, port, log_at(logs, rank), work, args)
        started.append(quick_processes().Process(target=as_rank, args=parts))
        started[-1].start()
    return started


def log_at(logs: Path, rank: int) -> Path:
    return logs.with_name(f"{logs.name}.{rank}.log")


def said(logs: Path) -> list[str]:
    """What each process printed."""
    return [log_at(logs, rank).read_text() for rank in range(RANKS)]


def ends(started: Sequence[BaseProcess]) -> list[int | None]:
    """Exit codes; processes that do not end are killed, so a deadlock is a failure."""
    deadline = time.monotonic() + SECONDS
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in started]


def together(logs: Path, work: Callable[..., object], *args: object) -> None:
    """Has all processes do something, to a good end."""
    codes = ends(start(logs, work, *args))
    assert codes == [0] * RANKS, "\n".join(said(logs))


# Runs.

RUNS: dict[str, tuple[str, Suite]] = {
    "grpo": ("grpo", short("train.problems_per_update=3", "train.learning_rate=1e-4")),
    "grpo, adapter": (
        "grpo",
        short("train.problems_per_update=2", "train.anchor_weight=0.1").model_copy(
            update={"lora": ADAPTER}
        ),
    ),
    "critique": (
        "critique",
        short("train.learning_rate=1e-4", "train.problems_per_update=3", 'teacher.kind="ema"'),
    ),
    "critique, adapter": (
        "critique",
        short("train.passes=2", "train.learning_rate=1e-4").model_copy(update={"lora": ADAPTER}),
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_two_processes_train_as_one_does(kind: str, tmp_path: Path) -> None:
    """Every row, every checkpoint and every count; losses up to the order of summation."""
    arm, suite = RUNS[kind]
    alone, shared = RunDir(tmp_path / "alone"), RunDir(tmp_path / "shared")
    if kind == "critique, adapter":  # begun by one process, continued by two
        with pytest.raises(Interrupted):
            train(suite, arm, SEED, shared.root, interrupt_at_2)
    together(tmp_path / "shared", train, suite, arm, SEED, shared.root, ignore)
    train(suite, arm, SEED, alone.root, ignore)
    assert_alike(shared, alone)
    if kind == "grpo":
        micros = [micro_batches(shared, suite, update) for update in (1, 2, 3)]
        assert any(0 in pair and pair != [0, 0] for pair in micros), "nobody had flat groups only"
        assert any(0 not in pair and pair[0] != pair[1] for pair in micros)


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def interrupt_at_2(update: int, log: Row) -> None:
    if log and update == 2:
        raise Interrupted


def assert_alike(found: RunDir, expected: RunDir) -> None:
    for ours, theirs in zip(log_of(found), log_of(expected), strict=True):
        assert_close(ours, theirs)
    for file in ("rollouts.jsonl", "feedback.jsonl"):
        assert (found.root / file).read_text() == (expected.root / file).read_text()
    ours, theirs = found.read_manifest(), expected.read_manifest()
    for manifest in (ours, theirs):
        del cast(Row, manifest["ledger"])["seconds"], manifest["started"]
    assert ours == theirs
    saved = found.saved_checkpoints()
    assert [path.name for path in saved] == [path.name for path in expected.saved_checkpoints()]
    for ours_at, theirs_at in zip(saved, expected.saved_checkpoints(), strict=True):
        # AdamW moves a weight by the learning rate however small its gradient is: in float32 that of
        # a few is nothing but the rounding of sums, whose order differs between processes.
        assert_same_checkpoint(ours_at, theirs_at, atol=1e-5, stray=1e-3)


def assert_close(found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        rel = 0 if name == "train/loss" else 1e-4
        wanted = pytest.approx(value, abs=1e-5, rel=rel) if isinstance(value, float) else value
        assert found[name] == wanted, name


def assert_same_checkpoint(found: Path, expected: Path, atol: float, stray: float = 0) -> None:
    """The same files and, but for a share `stray` of each tensor, values within `atol`."""
    assert sorted(f.name for f in found.iterdir()) == sorted(f.name for f in expected.iterdir())
    for file in expected.glob("*.safetensors"):
        ours, theirs = load_file(found / file.name), load_file(file)
        assert ours.keys() == theirs.keys(), file.name
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            off = (ours[name] - tensor).abs() > atol
            assert off.float().mean().item() <= stray, name


def micro_batches(run: RunDir, suite: Suite, update: int) -> list[int]:
    """How many each process had: rollouts of flat groups need none."""
    rows = [row for row in read_rows(run.rollouts) if row["update"] == update]
    rewards: dict[object, set[bool]] = {}
    for row in rows:
        rewards.setdefault(row["problem_id"], set()).add(row["status"] == "correct")
    group = len(rows) // len(rewards)
    needed = [0 if len(seen) == 1 else group for seen in rewards.values()]
    size = suite.train.micro_batch_rollouts
    return [math.ceil(sum(needed[rank::RANKS]) / size) for rank in range(RANKS)]


# Commands.

UPDATES = 8
COMMAND = (
    *("train", "--suite", "tiny", "--condition", "critique", "--seed", SEED, "--out", "run"),
    *("--set", f"train.updates={UPDATES}", "--set", "train.save_every=50"),
    *("--set", "train.problems_per_update=1", "--set", "data.train_problems=10"),
)


def command(folder: Path, *arguments: object) -> None:
    os.chdir(folder)
    sys.argv = ["sdbench", *map(str, arguments)]
    main()


def test_a_command_in_two_processes_stops_continues_and_speaks_once(
    tmp_path: Path, run: Callable[..., int]
) -> None:
    """One problem an update, so the second process has none; SIGTERM goes to that one alone."""
    folder = RunDir(tmp_path / "run")
    started = start(tmp_path / "stopped", command, tmp_path, *COMMAND)
    while not (folder.train_log.exists() and folder.train_log.read_bytes().count(b"\n")):
        assert all(process.is_alive() for process in started), said(tmp_path / "stopped")
        time.sleep(0.01)
    os.kill(cast(int, started[1].pid), signal.SIGTERM)
    assert ends(started) == [143, 143]
    first, second = said(tmp_path / "stopped")
    assert "stopped by SIGTERM after update" in first and not second
    reached = int(folder.saved_checkpoints()[-1].name)
    assert 0 < reached < UPDATES
    assert len(list(read_rows(folder.train_log))) == reached

    shutil.copytree(folder.root, tmp_path / "by one" / "run")
    together(tmp_path / "continued", command, tmp_path, *COMMAND)
    first, second = said(tmp_path / "continued")
    assert first.count("is its last checkpoint") == 1 and not second
    assert [row["update"] for row in read_rows(folder.train_log)] == list(range(1, UPDATES + 1))
    assert cast(Row, read_json(folder.manifest)["ledger"])["updates"] == UPDATES

    os.chdir(tmp_path / "by one")
    assert run(*COMMAND) == 0
    assert_alike(folder, RunDir(tmp_path / "by one" / "run"))

    elsewhere = [*COMMAND[:6], SEED + 1, *COMMAND[7:]]
    assert ends(start(tmp_path / "refused", command, tmp_path, *elsewhere)) == [2, 2]
    for line in said(tmp_path / "refused"):
        assert line.startswith("error:") and "seed" in line and line.count("\n") == 1


# Shards.

SHARDED: dict[str, Suite] = {
    "weights": short("train.micro_batch_rollouts=2", "train.chunk_logits=1000"),
    "adapter": short(
        "train.micro_batch_rollouts=2", "train.chunk_logits=1000", "train.anchor_weight=0.1"
    ).model_copy(update={"lora": ADAPTER}),
    "adapter, average": short("train.micro_batch_rollouts=2", 'teacher.kind="ema"').model_copy(
        update={"lora": ADAPTER}
    ),
}


def sharding_accelerator(suite: Suite, folder: Path) -> Accelerator:
    """What `open_accelerator` gives on GPUs under `accelerate launch --use_fsdp --fsdp_version 2`.

    accelerate shards on GPUs only; all that it does then does as well on CPU, once its state says so.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    state = processes.open_state()
    precision = mixed_precision(suite)
    accelerator = Accelerator(mixed_precision=precision)
    for one in (state, accelerator.state):
        one.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = processes.sharding_plugin(precision)
    return accelerator


def policy_in_float64(suite: Suite, accelerator: Accelerator, newest: Path | None) -> Policy:
    model = open_network(suite, SEED, newest)
    model.network.double()
    policy = Policy(model, suite, accelerator, lambda: initial_network(suite).double())
    if newest is not None:
        checkpoint.restore(newest, policy)
    return policy


def updates(
    suite: Suite, policy: Policy, items: Sequence[Item], numbers: Sequence[int]
) -> list[Row]:
    loss = assembly.loss(suite, resolve(suite, "critique"))
    done = [
        dataclasses.asdict(policy.update(items, objective(suite, loss, number)))
        for number in numbers
    ]
    return [{k: v for k, v in one.items() if "seconds" not in k} for one in done]


def save(folder: Path, policy: Policy, *, writes: bool) -> None:
    checkpoint.save(folder, policy, TrainingState(Ledger(), 0.0), "", writes=writes)


def train_sharded(suite: Suite, folder: Path, alone: Path) -> None:
    """Two updates and a checkpoint; then a third update after the checkpoint that one process wrote."""
    accelerator = sharding_accelerator(suite, folder)
    items = make_items(models.load("organism"), LENGTHS)
    own = items[:1] if accelerator.is_main_process else items[1:]
    policy = policy_in_float64(suite, accelerator, None)
    assert_layers_are_gathered_one_by_one(policy)
    found = updates(suite, policy, own, (1, 2))
    save(folder / "two", policy, writes=accelerator.is_main_process)
    policy = policy_in_float64(suite, sharding_accelerator(suite, folder), alone)
    found += updates(suite, policy, own, (3,))
    save(folder / "three", policy, writes=accelerator.is_main_process)
    write_for_engines(policy, folder / f"served by {accelerator.process_index}")
    if accelerator.is_main_process:
        (folder / "found.json").write_text(json.dumps(found))
    processes.close(accelerator)


LENGTHS = (3, 9, 4, 12, 7, 5, 2)


def write_for_engines(policy: Policy, folder: Path) -> None:
    """What an engine with weights of its own is given after an update."""
    network = policy.model.network
    if _weights.is_adapted(network):
        _weights.write_adapter(network, folder)
    else:
        _weights.write_weights(network, folder, "float32")


def assert_layers_are_gathered_one_by_one(policy: Policy) -> None:
    """The tied embeddings are one weight, in the outermost group."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    network = policy.model.network
    assert all(isinstance(weight, DTensor) for weight in network.parameters())
    layers = [m for m in network.modules() if type(m).__name__.endswith("DecoderLayer")]
    assert len(layers) == 4 and all(isinstance(layer, FSDPModule) for layer in layers)
    tied = models.head_of(network).weight
    assert tied is network.get_input_embeddings().weight


@pytest.mark.parametrize("kind", SHARDED)
def test_shards_train_as_whole_weights_do_and_share_their_checkpoints(
    kind: str, tmp_path: Path, organism: Model
) -> None:
    """One rollout in one process, six in the other: micro-batches 1 and 3, the first made up."""
    from accelerate import Accelerator

    suite = with_train(SHARDED[kind])
    items = make_items(organism, LENGTHS)
    policy = policy_in_float64(suite, Accelerator(), None)
    expected = updates(suite, policy, items, (1, 2))
    save(tmp_path / "two", policy, writes=True)
    policy = policy_in_float64(suite, Accelerator(), tmp_path / "two")
    expected += updates(suite, policy, items, (3,))
    save(tmp_path / "three", policy, writes=True)
    write_for_engines(policy, tmp_path / "served")

    shared = tmp_path / "shared"
    together(shared, train_sharded, suite, shared, tmp_path / "two")
    found = json.loads((shared / "found.json").read_text())
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_update(ours, theirs)
    assert_same_checkpoint(shared / "two", tmp_path / "two", atol=1e-9)
    assert_same_checkpoint(shared / "three", tmp_path / "three", atol=1e-9)
    for rank in range(RANKS):
        assert_same_checkpoint(shared / f"served by {rank}", tmp_path / "served", atol=1e-6)

    policy = policy_in_float64(suite, Accelerator(), shared / "two")
    (again,) = updates(suite, policy, items, (3,))
    assert_same_update(again, expected[2])


def assert_same_update(found: Row, expected: Row) -> None:
    assert_close(cast(Row, found["metrics"]), cast(Row, expected["metrics"]))
    assert {**found, "metrics": None} == {**expected, "metrics": None}


def round_sharded(suite: Suite, folder: Path) -> None:
    """A teacher that is a copy of the policy and reads the same rounds as the policy's shards do."""
    accelerator = sharding_accelerator(suite, folder)
    items = make_items(models.load("organism"), LENGTHS)[accelerator.process_index :: RANKS]
    same = [dataclasses.replace(item, teacher=item.student) for item in items]
    model = open_network(suite, SEED, None)
    policy = Policy(model, suite, accelerator, lambda: initial_network(suite))
    loss = assembly.loss(suite, resolve(suite, "critique"))
    found = policy.update(same, objective(suite, loss)).metrics
    assert found["train/loss"] == pytest.approx(0, abs=1e-6)
    assert found["train/anchor"] == pytest.approx(0, abs=1e-6)
    assert found["importance/mean"] == pytest.approx(1, abs=0.05)
    assert {weight.dtype for weight in policy.model.network.parameters()} == {torch.float32}
    processes.close(accelerator)


def test_shards_in_bfloat16_round_as_their_teacher_does(tmp_path: Path) -> None:
    suite = with_train(short('dtype="bfloat16"', "train.anchor_weight=0.1"))
    together(tmp_path / "rounded", round_sharded, suite, tmp_path)


def refused(suite: Suite, folder: Path) -> None:
    """Both refusals, in this order: FSDP on CPU, and sampling shards in their own process."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    with pytest.raises(ConfigError, match="on GPUs only"):
        train(suite, "grpo", SEED, folder, ignore)
    loop.processes.open_accelerator = sharding_accelerator  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"'hf'.*vllm or server"):
        train(suite, "grpo", SEED, folder, ignore)


def test_what_shards_cannot_do_is_refused(tmp_path: Path) -> None:
    together(tmp_path / "refused", refused, short("train.problems_per_update=2"), tmp_path / "run")
