"""Samples of one checkpoint on one split, durable: what is on disk is never drawn again.

In: a model's name, problems, settings. Out: `samples.jsonl`, appended as completions come. A killed
evaluation continues where it was; a larger k draws only the new samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from sdbench import models, plugins, prompts
from sdbench.config import Frozen, PluginConfig, validate
from sdbench.engines.base import Engine, Progress, Request, Sampling
from sdbench.errors import ConfigError
from sdbench.records import Completion, FinishReason, Problem, Sample
from sdbench.rundir import Row, append_rows, keep_rows, read_rows

CHUNK = 128


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the samples, besides problem and index.

    Attributes:
        model: Fingerprint of the weights.
        engine: Name of the engine.
        temperature: Of the draws.
        max_tokens: Token cap.
        seed: Of the draws.
    """

    model: str
    engine: str
    temperature: float
    max_tokens: int
    seed: int

    @property
    def key(self) -> str:
        """A short hash: samples under the same key are interchangeable."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Source:
    """Which model to sample and with what.

    Attributes:
        model: `organism`, a folder or a hub id.
        dtype: Of its weights.
        engine: The engine and its options.
    """

    model: str
    dtype: models.Dtype
    engine: PluginConfig

    def open(self) -> Engine:
        """Loads the model into the engine."""
        module = plugins.load(plugins.Kind.ENGINE, self.engine.name)
        config = validate(cast(type[Frozen], module.Config), self.engine.options, "[engine]")
        return cast(Engine, module.build(config, models.load(self.model, self.dtype)))


def sample(
    folder: Path,
    problems: Sequence[Problem],
    k: int,
    settings: Settings,
    open_engine: Callable[[], Engine],
    progress: Progress,
) -> list[Sample]:
    """Draws what is missing and returns all k samples of each problem, in order.

    Args:
        folder: Of this checkpoint, split and settings.
        problems: What to sample.
        k: Samples a problem.
        settings: How; the folder's name holds their hash.
        open_engine: Called only if something is missing.
        progress: Called with the number of samples that are newly there.

    Raises:
        ConfigError: k is less than 1.
    """
    if k < 1:
        raise ConfigError(f"k = {k}: allowed are whole numbers from 1")
    path = folder / "samples.jsonl"
    keep_rows(path, lambda row: True)
    held = {s.id: s for s in map(_from_row, read_rows(path))}
    wanted = {p.id: [i for i in range(k) if sample_id(p.id, i) not in held] for p in problems}
    progress(sum(k - len(indices) for indices in wanted.values()))
    missing = [problem for problem in problems if wanted[problem.id]]
    if missing:
        engine = open_engine()
        for start in range(0, len(missing), CHUNK):
            requests = [
                Request(p.id, prompts.solver(engine.model.tokenizer, p.prompt), tuple(wanted[p.id]))
                for p in missing[start : start + CHUNK]
            ]
            sampling = Sampling(settings.temperature, settings.max_tokens, settings.seed)
            new = [_sample(c) for c in engine.generate(requests, sampling, progress)]
            append_rows(path, map(_to_row, new))
            held |= {s.id: s for s in new}
    return [held[sample_id(problem.id, index)] for problem in problems for index in range(k)]


def sample_id(problem_id: str, index: int) -> str:
    """The id of a problem's sample."""
    return f"{problem_id}#{index}"


def _sample(completion: Completion) -> Sample:
    return Sample(
        id=sample_id(completion.request_id, completion.index),
        problem_id=completion.request_id,
        index=completion.index,
        text=completion.text,
        completion_tokens=len(completion.token_ids),
        finish_reason=completion.finish_reason,
    )


def _to_row(one: Sample) -> Row:
    return {**asdict(one), "finish_reason": one.finish_reason.value}


def _from_row(row: Row) -> Sample:
    fields = {**row, "finish_reason": FinishReason(cast(str, row["finish_reason"]))}
    return Sample(**fields)  # type: ignore[arg-type]
