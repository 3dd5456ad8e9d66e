"""Scripted completions: what an engine would return, without a model that thinks.

The script maps a request id to the texts of its samples; a request that is not scripted gets the
texts under `*`. It serves dry runs of a suite and is the seam for tests: grading, scoring, feedback
and batching see real records with real tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from sdbench.engines.base import EngineConfig, Request, Sampling, refuse_overlong
from sdbench.errors import EngineError
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Config(EngineConfig):
    """Options.

    Attributes:
        script: Texts by request id; sample i gets text i modulo their number.
    """

    script: dict[str, list[str]] = Field(default_factory=lambda: {"*": ["<answer>0</answer>"]})


def build(config: Config, model: Model) -> FakeEngine:
    """The engine; of the model only the tokenizer is used."""
    return FakeEngine(config, model)


class FakeEngine:
    """See the module.

    Attributes:
        syncs: How often it was given the weights of a model under training.
    """

    def __init__(self, config: Config, model: Model) -> None:
        self._script = config.script
        self._model = model
        self.syncs = 0

    @property
    def model(self) -> Model:
        """The model whose tokenizer encodes the script."""
        return self._model

    @property
    def max_length(self) -> int:
        """The model's, as if it were the one that writes."""
        return self._model.max_length

    def switch(self, model: Model) -> None:
        """Encodes with another model's tokenizer; the script stays."""
        self._model = model

    @property
    def shares_weights(self) -> bool:
        """No: the script depends on none."""
        return False

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        """Counts; the script stays."""
        self.syncs += 1

    def close(self) -> None:
        """Nothing is held."""

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """The scripted completions, cut at `max_tokens`; each token has log-probability 0."""
        refuse_overlong(requests, sampling, self.max_length)
        for request in requests:
            texts = self._script.get(request.id) or self._script.get("*")
            if not texts:
                raise EngineError(
                    f"the fake engine's script has no text for request {request.id!r}"
                )
            for index in request.indices:
                yield self._completion(request, index, texts[index % len(texts)], sampling)

    def _completion(
        self, request: Request, index: int, text: str, sampling: Sampling
    ) -> Completion:
        encoded = self._model.tokenizer.encode(text, add_special_tokens=False)
        ids = [*encoded, self._model.end_ids[0]]
        cut = len(ids) > sampling.max_tokens
        ids = ids[: sampling.max_tokens]
        return Completion(
            request_id=request.id,
            index=index,
            tokens=len(ids),
            token_ids=tuple(ids),
            logprobs=(0.0,) * len(ids),
            text=self._model.decode(ids if cut else ids[:-1]),
            finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
        )
