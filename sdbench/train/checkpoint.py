"""Checkpoints: a model folder that transformers loads, with what it takes to train on exactly.

Each is written aside and renamed, so one that can be seen is complete. There is no random state to
keep: every draw belongs to (seed, problem, sample), and the data order to (seed, update).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdbench.errors import CheckpointError, DataError
from sdbench.rundir import Row, read_json, write_json, written_aside
from sdbench.train.ledger import Ledger, from_row
from sdbench.train.policy import Policy

OPTIMIZER = "optimizer.safetensors"
STATE = "training_state.json"


def save(folder: Path, policy: Policy, ledger: Ledger) -> None:
    """Writes model, tokenizer, optimiser and ledger.

    Raises:
        CheckpointError: the folder exists already.
    """
    with written_aside(folder) as aside:
        policy.model.network.save_pretrained(aside)
        policy.model.tokenizer.save_pretrained(aside)
        save_file(_optimizer_tensors(policy), aside / OPTIMIZER)
        write_json(aside / STATE, {"update": ledger.updates, "ledger": ledger.as_row()})


def restore(folder: Path, policy: Policy) -> Ledger:
    """Puts the optimiser's state back into a policy that was loaded from this folder.

    Returns:
        The ledger at that update.

    Raises:
        CheckpointError: a file is missing, cut short or of another model.
    """
    try:
        tensors = load_file(folder / OPTIMIZER)
        ledger = from_row(cast(Row, read_json(folder / STATE)["ledger"]))
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
        policy.optimizer.state[by_name[parameter]][key] = tensor
    return ledger


def _optimizer_tensors(policy: Policy) -> dict[str, torch.Tensor]:
    return {
        f"{name}:{key}": value.detach().clone().contiguous()
        for name, parameter in policy.model.network.named_parameters()
        for key, value in policy.optimizer.state[parameter].items()
    }
