"""Checkpoints: a model or adapter folder that transformers and peft load, and what training needs.

Each is written aside and renamed, so one that can be seen is complete. Weights, optimiser and teacher
are safetensors. There is no random state to keep: every draw belongs to (seed, problem, sample), the
data order and dropout to (seed, update). Rollouts that were drawn ahead of their update are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdbench.config import Train
from sdbench.errors import CheckpointError, DataError
from sdbench.models import split_revision
from sdbench.rundir import Row, RunDir, read_json, write_json, write_text, written_aside
from sdbench.train.ledger import Ledger, from_row
from sdbench.train.policy import Policy
from sdbench.train.teachers import Tensors, is_adapted

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor
    from transformers import PreTrainedModel

OPTIMIZER = "optimizer.safetensors"
TEACHER = "optimizer.teacher.safetensors"
STATE = "training_state.json"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a checkpoint knows besides tensors.

    Attributes:
        ledger: Costs up to its update.
        reward: Mean reward of the rollouts since the last multiple of `train.save_every`.
        ahead: Rollouts of the next update that were drawn already, as rows; None if none were.
    """

    ledger: Ledger
    reward: float
    ahead: list[Row] | None = None


def save(folder: Path, policy: Policy, state: TrainingState, card: str, *, writes: bool) -> None:
    """Writes model, tokenizer, optimiser, teacher and state.

    Args:
        folder: A new folder.
        policy: What to save.
        state: Besides tensors.
        card: The model card.
        writes: Whether this process writes; the others only give their shards.

    Raises:
        CheckpointError: the folder exists already.
    """
    network = policy.model.network
    shards = any(_is_sharded(weight) for weight in network.parameters())
    weights = _gathered(_distinct(network), keep=writes) if shards else None
    optimizer = _gathered(_optimizer_tensors(policy), keep=writes)
    if not writes:
        return
    with written_aside(folder) as aside:
        _save_network(policy, weights, aside)
        policy.model.tokenizer.save_pretrained(aside)
        save_file(optimizer, aside / OPTIMIZER)
        if teacher := policy.teacher.state():
            save_file(teacher, aside / TEACHER)
        row: Row = {"update": state.ledger.updates, "ledger": state.ledger.as_row()}
        row |= {"reward": state.reward, "ahead": cast("list[object]", state.ahead)}  # type: ignore[dict-item]
        write_json(aside / STATE, row)
        write_text(aside / CARD, card)


def restore(folder: Path, policy: Policy) -> TrainingState:
    """Puts optimiser and teacher back into a policy that was loaded from this folder.

    Raises:
        CheckpointError: a file is missing, cut short or of another model.
    """
    try:
        tensors = load_file(folder / OPTIMIZER)
        taught = load_file(folder / TEACHER) if policy.teacher.state() else {}
        row = read_json(folder / STATE)
        state = TrainingState(
            from_row(cast(Row, row["ledger"])),
            cast(float, row["reward"]),
            cast("list[Row] | None", row["ahead"]),
        )
    except (OSError, SafetensorError, DataError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot resume from {folder}: {error}",
            hint="delete this checkpoint's folder to resume from the one before it",
        ) from error
    by_name = dict(policy.model.network.named_parameters())
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition(":")
        if parameter not in by_name:
            raise CheckpointError(
                f"cannot resume from {folder}: no parameter {parameter!r} in the model"
            )
        weight = by_name[parameter]
        policy.optimizer.state[weight][key] = _placed_like(weight, tensor)
    policy.teacher.restore(taught)
    return state


def prune(run: RunDir, config: Train) -> None:
    """Deletes what need not be kept: of the saved, and of what a kill left half written or deleted.

    With `keep_last` these are checkpoints that are neither among the newest nor among the best of
    the others. Between two multiples of `save_every` a checkpoint stands only because the run was
    asked to stop there; it goes when the next is saved, or the choice of the best one would depend
    on when that was.
    """
    for left in (*run.checkpoints.glob(".*.part"), *run.checkpoints.glob(".*.gone")):
        shutil.rmtree(left)
    saved = run.saved_checkpoints()
    gone = [path for path in saved[:-1] if int(path.name) % config.save_every]
    if config.keep_last is not None:
        older = [path for path in saved if path not in gone][: -config.keep_last]
        older.sort(key=lambda path: cast(float, read_json(path / STATE)["reward"]))
        gone += older[: max(0, len(older) - config.keep_best)]
    for path in gone:
        # Renamed first: what a kill leaves half deleted is no checkpoint any more.
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.gone")))


def model_card(
    title: str, base: str, library: str, command: str, metrics: Mapping[str, object]
) -> str:
    """The README of a checkpoint: what it is, how it was made, how it stood."""
    rows = [f"| {name} | {_shown(value)} |" for name, value in metrics.items()]
    return "\n".join(
        [
            "---",
            f"base_model: {base}",
            f"library_name: {library}",
            "tags: [sdbench, self-distillation]",
            "---",
            f"# {title}",
            "",
            f"Trained from `{base}` by sdbench:",
            "",
            f"    {command}",
            "",
            "The last update before this checkpoint, on its own training rollouts; no evaluation:",
            "",
            "| metric | value |",
            "|---|---:|",
            *rows,
            "",
        ]
    )


def _save_network(policy: Policy, weights: Tensors | None, folder: Path) -> None:
    network = policy.model.network
    if not is_adapted(network):
        network.save_pretrained(folder, state_dict=weights)
        return
    # Asked whether to save embeddings too, peft would look up the base model at the hub.
    network.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
    path = folder / "adapter_config.json"
    described = read_json(path)
    base, revision = split_revision(policy.model.source)
    described["base_model_name_or_path"] = str(Path(base).resolve()) if revision is None else base
    described["revision"] = revision
    # A set in peft, whose order differs from process to process.
    described["target_modules"] = [*sorted(cast("list[str]", described["target_modules"]))]
    write_json(path, described)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _optimizer_tensors(policy: Policy) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in policy.model.network.named_parameters():
        for key, value in policy.optimizer.state.get(parameter, {}).items():
            yield f"{name}:{key}", value


def _distinct(network: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a network, tied ones once; with an adapter, its weights alone."""
    if is_adapted(network):
        yield from ((n, weight) for n, weight in network.named_parameters() if weight.requires_grad)
        return
    yield from network.named_parameters()
    persistent = network.state_dict().keys()
    yield from ((n, buffer) for n, buffer in network.named_buffers() if n in persistent)


def _gathered(tensors: Iterable[tuple[str, torch.Tensor]], *, keep: bool) -> Tensors:
    """All of each tensor in main memory; every process must ask, and only one need keep them."""
    found = {}
    for name, tensor in tensors:
        whole = tensor.detach()
        if _is_sharded(whole):
            whole = cast("DTensor", whole).full_tensor()
        if keep:
            found[name] = whole.cpu().contiguous()
    return found


def _is_sharded(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _placed_like(weight: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A part of the optimiser's state where its weight lies."""
    if tensor.ndim == 0:
        return tensor.to(weight.device)
    if not _is_sharded(weight):
        return tensor.to(weight.device)
    from torch.distributed.tensor import distribute_tensor

    sharded = cast("DTensor", weight)
    return distribute_tensor(tensor.to(sharded.device), sharded.device_mesh, sharded.placements)
