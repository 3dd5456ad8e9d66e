"""What every engine is: requests in, completions out.

A completion depends on the model, the prompt, the sampling settings and the key (seed, request id,
index), never on what else is in the batch or on its order. Up to rounding: matrix products of other
shapes differ in the last bits, which can tip a draw that lies within about 1e-6 of a boundary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sdbench.errors import EngineError
from sdbench.records import Completion

if TYPE_CHECKING:
    import numpy as np

    from sdbench.models import Model

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and which of its samples are wanted.

    Attributes:
        id: Names the prompt; part of the key of every draw.
        prompt_ids: The prompt, chat template applied.
        indices: Numbers of the samples to draw, for example 0 to 11.
    """

    id: str
    prompt_ids: tuple[int, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw.

    Attributes:
        temperature: 0 takes the likeliest token.
        max_tokens: Token cap of a completion.
        seed: Of all draws.
    """

    temperature: float
    max_tokens: int
    seed: int


class Engine(Protocol):
    """Writes completions with one model."""

    @property
    def model(self) -> Model:
        """The model it samples; engines in this process share its weights with whoever trains them."""
        ...

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = ...
    ) -> list[Completion]:
        """Draws every wanted sample.

        Args:
            requests: Prompts; their ids are distinct.
            sampling: The settings.
            progress: Called with the number of completions that have just ended.

        Returns:
            Completions in order of requests, then of indices.

        Raises:
            EngineError: a prompt leaves no room for `max_tokens`; the message names its request.
        """
        ...


def ignore(completions: int) -> None:
    """Progress that nobody looks at."""


def refuse_overlong(requests: Sequence[Request], sampling: Sampling, model: Model) -> None:
    """Refuses prompts that leave no room for `max_tokens`; none is ever cut.

    Raises:
        EngineError: names the first such request.
    """
    for request in requests:
        length = len(request.prompt_ids)
        if length + sampling.max_tokens > model.max_length:
            raise EngineError(
                f"prompt of {request.id} has {length} tokens; with max_tokens {sampling.max_tokens}"
                f" it exceeds the model's {model.max_length}",
                hint="lower max_tokens",
            )


def uniforms(sampling: Sampling, request_id: str, index: int) -> np.ndarray:
    """The uniform draws of one sample, one a token, from a counter-based generator.

    Returns:
        [max_tokens] in [0, 1), a function of (seed, request id, index) alone.
    """
    import numpy as np

    digest = hashlib.sha256(f"{sampling.seed}\0{request_id}\0{index}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return generator.random(sampling.max_tokens)
