"""The network to train: all weights, or an adapter over frozen ones; new, or from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from torch import nn

from sdbench import models
from sdbench.config import LoRA, Suite
from sdbench.errors import CheckpointError, ConfigError
from sdbench.models import Dtype, Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def open_network(suite: Suite, seed: int, newest: Path | None) -> Model:
    """The suite's model, ready for an optimiser.

    Args:
        suite: Names the model and the adapter.
        seed: Of a new adapter's weights; all conditions of a seed start from the same ones.
        newest: The checkpoint to continue from; None to begin.

    Raises:
        CheckpointError: model or checkpoint cannot be read.
        ConfigError: an adapter for layers that the model does not have, or peft is missing.
    """
    if suite.lora is None:
        start = models.source_of(suite.model) if newest is None else str(newest)
        return models.load(start, weights_dtype(suite))
    model = models.load(suite.model, weights_dtype(suite))
    return model.around(_adapted(model.network, suite.lora, seed, newest))


def initial_network(suite: Suite) -> PreTrainedModel:
    """The untrained network, anew."""
    return models.load(suite.model, weights_dtype(suite)).network


def weights_dtype(suite: Suite) -> Dtype:
    """Weights that are trained are float32, since bfloat16 would swallow most of an update.

    Those below an adapter have the suite's type; the adapter itself is float32.
    """
    return "float32" if suite.lora is None else suite.dtype


def mixed_precision(suite: Suite) -> str:
    """What accelerate computes in: bfloat16 from float32 weights if the suite asks for it."""
    return "bf16" if suite.dtype == "bfloat16" and suite.lora is None else "no"


def _adapted(
    network: PreTrainedModel, lora: LoRA, seed: int, newest: Path | None
) -> PreTrainedModel:
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError as error:
        raise ConfigError(
            f"[lora] needs the package peft: {error}", hint="pip install 'sdbench[lora]'"
        ) from error
    if newest is not None:
        try:
            found = PeftModel.from_pretrained(network, str(newest), is_trainable=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"cannot load an adapter from {newest}: {error}") from error
        return cast("PreTrainedModel", found)
    _refuse_targets(network, lora)
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float serves as well
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    return cast("PreTrainedModel", get_peft_model(network, settings))


def _refuse_targets(network: PreTrainedModel, lora: LoRA) -> None:
    """Each target is a linear layer; the output layer is the teacher's too and stays as it is."""
    head = models.head_of(network)
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    for target in lora.targets:
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            allowed = sorted({name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                f"lora.targets: {target!r} is no linear layer below the output layer; "
                f"allowed: {', '.join(allowed)}"
            )
