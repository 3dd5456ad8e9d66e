"""What every engine is: requests in, completions out, each as soon as it is there.

A completion depends on the model, the prompt, the sampling settings and the key (seed, request id,
index), never on what else is in the batch or on its order. Up to rounding: matrix products of other
shapes differ in the last bits, which can tip a draw that lies within about 1e-6 of a boundary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from sdbench.config import Frozen
from sdbench.errors import EngineError
from sdbench.records import Completion

if TYPE_CHECKING:
    import numpy as np
    from peft import PeftModel
    from transformers import PreTrainedModel

    from sdbench.models import Model

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and which of its samples are wanted.

    Attributes:
        id: Names the prompt; part of the key of every draw.
        prompt_ids: The prompt, chat template applied.
        indices: Numbers of the samples to draw, for example 0 to 11.
        prompt: The user's turn, for a server that applies the chat template itself.
    """

    id: str
    prompt_ids: tuple[int, ...]
    indices: tuple[int, ...]
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw.

    Attributes:
        temperature: 0 takes the likeliest token.
        max_tokens: Token cap of a completion.
        seed: Of all draws.
        logprobs: Whether log-probabilities are wanted.
    """

    temperature: float
    max_tokens: int
    seed: int
    logprobs: bool = True


class EngineConfig(Frozen):
    """Base of the options of engines."""

    effort: ClassVar[frozenset[str]] = frozenset()
    """Options of memory, speed and patience alone: completions are the same, up to rounding."""


class Engine(Protocol):
    """Writes completions with one model at a time.

    A stream may run in any thread, one at a time; everything else is called while none is under way.
    """

    @property
    def model(self) -> Model:
        """The model it samples."""
        ...

    @property
    def max_length(self) -> int:
        """Most tokens that prompt and completion may have together; known without a start."""
        ...

    @property
    def shares_weights(self) -> bool:
        """Whether it samples the very weights that are trained, so never while they change.

        Otherwise it has its own copy as of the last `sync`, and may sample during an update.
        """
        ...

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Draws every wanted sample.

        Args:
            requests: Prompts; their ids are distinct.
            sampling: The settings.

        Returns:
            Completions as they end, in no order.

        Raises:
            EngineError: a prompt leaves no room for `max_tokens`; the message names its request.
        """
        ...

    def switch(self, model: Model) -> None:
        """Samples another model from now on, without starting anew where that can be avoided."""
        ...

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        """Takes over the current weights of the model under training.

        Called before the first rollouts, which also tells the engine what will be trained, and
        after each update. Completions drawn from now on are this network's.

        Args:
            network: All weights, or a LoRA adapter over weights that are still those of
                `model.source`: a peft model.

        Raises:
            ConfigError: the engine cannot serve what is trained this way.
            EngineError: the weights did not arrive.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds: memory, processes, connections."""
        ...


def ignore(completions: int) -> None:
    """Progress that nobody looks at."""


def generate(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, progress: Progress = ignore
) -> list[Completion]:
    """Draws every wanted sample and waits for all of them.

    Args:
        engine: The engine.
        requests: Prompts; their ids are distinct.
        sampling: The settings.
        progress: Called with the number of completions that have just ended.

    Returns:
        Completions in order of requests, then of indices.

    Raises:
        EngineError: a prompt leaves no room for `max_tokens`; the message names its request.
    """
    drawn: dict[tuple[str, int], Completion] = {}
    for completion in engine.stream(requests, sampling):
        drawn[completion.request_id, completion.index] = completion
        progress(1)
    return [drawn[request.id, index] for request in requests for index in request.indices]


def refuse_overlong(requests: Sequence[Request], sampling: Sampling, max_length: int) -> None:
    """Refuses prompts that leave no room for `max_tokens`; none is ever cut.

    Args:
        requests: Prompts.
        sampling: The settings.
        max_length: Most tokens that prompt and completion may have together.

    Raises:
        EngineError: names the first such request.
    """
    for request in requests:
        length = len(request.prompt_ids)
        if length + sampling.max_tokens > max_length:
            raise EngineError(
                f"prompt of {request.id} has {length} tokens; with max_tokens {sampling.max_tokens}"
                f" it exceeds the model's {max_length}",
                hint="lower max_tokens",
            )


def key(sampling: Sampling, request_id: str, index: int) -> bytes:
    """What one sample's draws come from: 32 bytes, a function of (seed, request id, index)."""
    return hashlib.sha256(f"{sampling.seed}\0{request_id}\0{index}".encode()).digest()


def uniforms(sampling: Sampling, request_id: str, index: int) -> np.ndarray:
    """The uniform draws of one sample, one a token, from a counter-based generator.

    Returns:
        [max_tokens] in [0, 1), a function of (seed, request id, index) alone.
    """
    import numpy as np

    number = int.from_bytes(key(sampling, request_id, index)[:16], "little")
    return np.random.Generator(np.random.Philox(key=number)).random(sampling.max_tokens)
