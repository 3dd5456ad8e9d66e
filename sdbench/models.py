"""Models: loading a causal language model with its tokenizer, and reading logits off it.

In: a name. Out: a `Model`, and packed logits of completion tokens. It stands apart from `engines`
because training, engines and analysis all score tokens with the same few lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sdbench.errors import CheckpointError
from sdbench.organism import WEIGHTS
from sdbench.records import TeacherView

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16"]
ORGANISM = "organism"


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model.

    Attributes:
        source: The folder or hub id it came from.
        network: The transformers model, in evaluation mode.
        tokenizer: Its tokenizer.
    """

    source: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Token ids that end a completion."""
        configured = self.network.generation_config
        ids = None if configured is None else configured.eos_token_id
        ids = self.tokenizer.eos_token_id if ids is None else ids
        return tuple(ids) if isinstance(ids, list) else (int(ids),)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str), "one sequence decodes to one text"
        return text

    @property
    def max_length(self) -> int:
        """Most tokens that prompt and completion may have together."""
        return int(self.network.config.max_position_embeddings)


def source_of(name: str) -> str:
    """The folder or hub id that a model's name in a suite stands for."""
    return str(WEIGHTS) if name == ORGANISM else name


def load(name: str, dtype: Dtype = "float32") -> Model:
    """Loads a model and its tokenizer from a folder in transformers layout or from the hub.

    Args:
        name: `organism`, a folder, or a hub id.
        dtype: Of the weights.

    Raises:
        CheckpointError: nothing there, or a file is missing or cut short.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    source = source_of(name)
    _refuse_missing(source)
    logging.disable_progress_bar()
    try:
        network = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"cannot load a model from {source}: {first}",
            hint="a checkpoint holds config.json, tokenizer.json and *.safetensors, all complete",
        ) from error
    return Model(source, network.eval(), tokenizer)


def _refuse_missing(source: str) -> None:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{source} holds no model: config.json is missing",
                hint="give a folder in transformers layout, or a run folder that sdbench wrote",
            )
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise CheckpointError(
            f"no such folder: {source}; allowed: a model folder, a run folder or a hub id owner/name"
        )


def fingerprint(source: str) -> str:
    """A hash of a local model's weights; the source itself for a hub id."""
    files = sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []
    if not files:
        return source
    digest = hashlib.sha256()
    for file in files:
        if file.name != "optimizer.safetensors":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def completion_logits(network: PreTrainedModel, views: Sequence[TeacherView]) -> torch.Tensor:
    """Logits that predict each completion token, without padding.

    Args:
        network: The model; gradients flow if they are enabled.
        views: For each rollout what is read and where its completion tokens lie, [B].

    Returns:
        [N, V], the completion tokens of all rollouts one after the other, in order of `views`.
    """
    import torch

    width = max(len(view.input_ids) for view in views)
    device = network.device
    input_ids_BS = torch.zeros((len(views), width), dtype=torch.long)
    for row, view in enumerate(views):
        input_ids_BS[row, : len(view.input_ids)] = torch.tensor(view.input_ids)
    # Padding stands on the right, so under a causal mask no completion token ever sees it.
    logits_BSV = network(input_ids=input_ids_BS.to(device), use_cache=False).logits
    rows_N = torch.tensor([row for row, view in enumerate(views) for _ in view.positions])
    columns_N = torch.tensor([position - 1 for view in views for position in view.positions])
    logits_NV: torch.Tensor = logits_BSV[rows_N.to(device), columns_N.to(device)]
    return logits_NV


def student_view(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> TeacherView:
    """The view of a reader whose prompt is directly followed by the completion."""
    start = len(prompt_ids)
    return TeacherView(
        (*prompt_ids, *completion_ids), tuple(range(start, start + len(completion_ids)))
    )
