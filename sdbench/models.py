"""Models: loading a causal language model with its tokenizer, and reading logits off it.

In: a name. Out: a `Model`, and packed logits of completion tokens. It stands apart from `engines`
because training, engines and analysis all score tokens with the same few lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sdbench.errors import CheckpointError
from sdbench.organism import WEIGHTS
from sdbench.records import TeacherView
from sdbench.rundir import read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16"]
ORGANISM = "organism"
CHUNK_LOGITS = 2**24
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Model:
    """A model with its tokenizer; the weights are read when `network` is first used.

    So an engine that loads the weights itself, or a server elsewhere, costs no memory here.

    Attributes:
        source: The folder or hub id it came from.
        dtype: Of its weights.
        adapter: Folder of a LoRA adapter over `source`, None without one.
        tokenizer: Its tokenizer.
        config: Its architecture.
    """

    def __init__(
        self,
        source: str,
        dtype: Dtype,
        tokenizer: PreTrainedTokenizerBase,
        config: PreTrainedConfig,
        *,
        adapter: str | None = None,
    ) -> None:
        self.source, self.dtype, self.adapter = source, dtype, adapter
        self.tokenizer, self.config = tokenizer, config

    @cached_property
    def network(self) -> PreTrainedModel:
        """The transformers model, in evaluation mode.

        Raises:
            CheckpointError: a file is missing or cut short.
        """
        return _read_weights(self)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Token ids that end a completion: the generation config's, else the tokenizer's."""
        from transformers import GenerationConfig

        name, revision = split_revision(self.source)
        try:
            ids = GenerationConfig.from_pretrained(name, revision=revision or "main").eos_token_id
        except OSError:
            ids = getattr(self.config, "eos_token_id", None)
        ids = self.tokenizer.eos_token_id if ids is None else ids
        return tuple(ids) if isinstance(ids, list) else (int(ids),)

    def encode_completion(self, text: str) -> tuple[int, ...]:
        """Token ids of a completion that somebody else wrote, ended as the model ends its own.

        Of several tokens that end a completion it is the tokenizer's, which its chat template uses.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        own = self.tokenizer.eos_token_id
        return (*cast("list[int]", ids), own if own in self.end_ids else self.end_ids[0])

    @property
    def max_length(self) -> int:
        """Most tokens that prompt and completion may have together."""
        return int(self.config.max_position_embeddings)

    @cached_property
    def parameters(self) -> int:
        """How many weights it has, told from its architecture alone."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            return int(AutoModelForCausalLM.from_config(self.config).num_parameters())

    def around(self, network: PreTrainedModel, dtype: Dtype | None = None) -> Model:
        """The same model with this network for its weights, such as one that is being trained.

        Args:
            network: The network.
            dtype: In which an engine with weights of its own is to hold them; None for the same.
        """
        kept = dtype or self.dtype
        copy = Model(self.source, kept, self.tokenizer, self.config, adapter=self.adapter)
        copy.__dict__["network"] = network
        return copy

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str), "one sequence decodes to one text"
        return text


def source_of(name: str) -> str:
    """The folder or hub id that a model's name in a suite stands for."""
    return str(WEIGHTS) if name == ORGANISM else name


def open_model(name: str, dtype: Dtype = "float32") -> Model:
    """Reads a model's architecture and tokenizer, but not its weights.

    Args:
        name: `organism`, a folder in transformers layout, a folder with a LoRA adapter, or a hub id
            `owner/name` or `owner/name@revision`.
        dtype: Of the weights.

    Raises:
        CheckpointError: nothing there, or a file is missing or cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = source_of(name)
    adapter = source if _is_adapter(source) else None
    if adapter is not None:
        source = source_of(_base_of(adapter))
    _refuse_missing(source)
    hub_id, revision = split_revision(source)
    try:
        config = AutoConfig.from_pretrained(hub_id, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(hub_id, revision=revision)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    return Model(source, dtype, tokenizer, config, adapter=adapter)


def load(name: str, dtype: Dtype = "float32") -> Model:
    """Reads a model with its weights; see `open_model`.

    Raises:
        CheckpointError: nothing there, or a file is missing or cut short.
    """
    model = open_model(name, dtype)
    _ = model.network
    return model


def _read_weights(model: Model) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    name, revision = split_revision(model.source)
    try:
        network = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=getattr(torch, model.dtype)
        )
        if model.adapter is not None:
            network.load_adapter(model.adapter)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(model.adapter or model.source, error) from error
    found: PreTrainedModel = network.eval()
    return found


def _unreadable(source: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot load a model from {source}: {str(error).strip().splitlines()[0]}",
        hint="a checkpoint holds config.json, tokenizer.json and *.safetensors, all complete",
    )


def split_revision(source: str) -> tuple[str, str | None]:
    """A hub id and its revision, main if none is named; a folder stays whole and has none."""
    if Path(source).is_dir():
        return source, None
    name, _, revision = source.partition("@")
    return name, revision or "main"


def _is_adapter(source: str) -> bool:
    return Path(source, "adapter_config.json").is_file()


def _base_of(adapter: str) -> str:
    """The model that an adapter was trained on.

    Raises:
        CheckpointError: the adapter does not say.
    """
    path = Path(adapter, "adapter_config.json")
    described = read_json(path)
    base, revision = described.get("base_model_name_or_path"), described.get("revision")
    if not base:
        raise CheckpointError(f"{path} does not name its base_model_name_or_path")
    return f"{base}@{revision}" if revision and not Path(str(base)).is_dir() else str(base)


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
    """What tells weights apart: a hash of a folder's weights, a hub id with its commit.

    An adapter's hash covers its base. A hub id whose commit cannot be told stands for itself.
    """
    folder = Path(source)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return _commit_of(source)
    base = ""
    if _is_adapter(source):
        base = fingerprint(source_of(_base_of(source)))
        files.append(folder / "adapter_config.json")
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _digest(base, tuple(stamp for stamp in stamps if "optimizer." not in stamp[0]))


@cache
def _digest(prefix: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """A hash of files; read again only if their sizes or times have changed."""
    digest = hashlib.sha256(prefix.encode())
    for file, _, _ in stamps:
        with open(file, "rb") as opened:
            while block := opened.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:16]


def template_fingerprint(source: str) -> str:
    """A hash of a folder's tokenizer and chat template; empty for a hub id, whose commit says it."""
    folder = Path(source_of(_base_of(source))) if _is_adapter(source) else Path(source)
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        return ""
    return _digest("", tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


def _commit_of(source: str) -> str:
    if Path(source).is_dir() or source.count("/") != 1:
        return source
    from transformers import AutoConfig

    name, revision = split_revision(source)
    try:
        commit = AutoConfig.from_pretrained(name, revision=revision)._commit_hash
    except (OSError, ValueError):
        return source
    return f"{name}@{commit}" if commit else source


def completion_logits(network: PreTrainedModel, views: Sequence[TeacherView]) -> torch.Tensor:
    """Logits that predict each completion token, without padding.

    Args:
        network: The model; gradients flow if they are enabled.
        views: For each rollout what is read and where its completion tokens lie, [B].

    Returns:
        [N, V], the completion tokens of all rollouts one after the other, in order of `views`.
    """
    logits_BSV = network(input_ids=_padded(network, views), use_cache=False).logits
    logits_NV: torch.Tensor = logits_BSV[_places(network, views)]
    return logits_NV


def completion_hidden(
    network: PreTrainedModel,
    views: Sequence[TeacherView],
    decoder: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """Last hidden states from which `head_of` predicts each completion token, without padding.

    Args:
        network: The model, or a peft model around it; gradients flow if they are enabled.
        views: For each rollout what is read and where its completion tokens lie, [B].
        decoder: `decoder_of(network)` as torch compiled it; None for the thing itself.

    Returns:
        [N, H], the completion tokens of all rollouts one after the other, in order of `views`.
    """
    read = decoder_of(network) if decoder is None else decoder
    hidden_BSH = read(input_ids=_padded(network, views), use_cache=False).last_hidden_state
    hidden_NH: torch.Tensor = hidden_BSH[_places(network, views)]
    return hidden_NH


def completion_logprobs(
    network: PreTrainedModel,
    views: Sequence[TeacherView],
    completion_ids: Sequence[Sequence[int]],
    chunk_logits: int = CHUNK_LOGITS,
) -> list[torch.Tensor]:
    """Log-probabilities of completion tokens, without ever holding all their logits.

    Args:
        network: The model; no gradients flow.
        views: For each rollout what is read and where its completion tokens lie, [B].
        completion_ids: The tokens, [B] of [T].
        chunk_logits: Most logits at once.

    Returns:
        Nats at temperature 1, [B] of [T].
    """
    import torch

    ids_N = torch.tensor([token for ids in completion_ids for token in ids], device=network.device)
    head, found = head_of(network), []
    with torch.no_grad():
        hidden_NH = completion_hidden(network, views)
        size = max(1, chunk_logits // len(head.weight))
        for hidden_nH, ids_n in zip(hidden_NH.split(size), ids_N.split(size), strict=True):
            logprobs_nV = head(hidden_nH).float().log_softmax(-1)
            found.append(logprobs_nV.gather(-1, ids_n[:, None])[:, 0])
    return list(torch.cat(found).split([len(ids) for ids in completion_ids]))


def decoder_of(network: PreTrainedModel) -> torch.nn.Module:
    """All of it but the output layer."""
    decoder: torch.nn.Module = _inner(network).get_decoder()
    return decoder


def head_of(network: PreTrainedModel) -> torch.nn.Linear:
    """The output layer, which makes logits of hidden states."""
    head: torch.nn.Linear = _inner(network).get_output_embeddings()
    return head


def _inner(network: PreTrainedModel) -> PreTrainedModel:
    """The transformers model within a peft model, or the model itself."""
    get_base_model = getattr(network, "get_base_model", None)
    inner: PreTrainedModel = network if get_base_model is None else get_base_model()
    return inner


def _padded(network: PreTrainedModel, views: Sequence[TeacherView]) -> torch.Tensor:
    """What is read, [B, S]. Padding stands on the right, so under a causal mask nobody sees it."""
    import torch

    width = max(len(view.input_ids) for view in views)
    input_ids_BS = torch.zeros((len(views), width), dtype=torch.long)
    for row, view in enumerate(views):
        input_ids_BS[row, : len(view.input_ids)] = torch.tensor(view.input_ids)
    return input_ids_BS.to(network.device)


def _places(
    network: PreTrainedModel, views: Sequence[TeacherView]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of the positions that predict the completion tokens, [N] each."""
    import torch

    rows_N = torch.tensor([row for row, view in enumerate(views) for _ in view.positions])
    columns_N = torch.tensor([position - 1 for view in views for position in view.positions])
    return rows_N.to(network.device), columns_N.to(network.device)


def student_view(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> TeacherView:
    """The view of a reader whose prompt is directly followed by the completion."""
    start = len(prompt_ids)
    return TeacherView(
        (*prompt_ids, *completion_ids), tuple(range(start, start + len(completion_ids)))
    )
