"""Samples of one checkpoint on one split, durable: what is on disk is never drawn again.

In: a model's name, problems, settings. Out: `samples.jsonl`, appended as completions come and put in
order at the end, so that a killed evaluation continues where it was and ends with the same file. A
larger k draws only the new samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from sdbench import models, plugins, prompts
from sdbench.config import Frozen, PluginConfig, validate
from sdbench.engines.base import Engine, Progress, Request, Sampling
from sdbench.errors import ConfigError
from sdbench.records import Completion, FinishReason, Problem, Sample
from sdbench.rundir import Row, RowWriter, alone_in, keep_rows, read_rows, write_rows


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the samples, besides problem and index.

    Attributes:
        model: Fingerprint of the weights.
        engine: Name of the engine.
        temperature: Of the draws.
        max_tokens: Token cap.
        seed: Of the draws.
        template: Fingerprint of the tokenizer and its chat template.
        style: Of the solver's prompt.
        thinking: Whether the solver may think first; None leaves it to the chat template.
    """

    model: str
    engine: str
    temperature: float
    max_tokens: int
    seed: int
    template: str = ""
    style: prompts.Style = "plain"
    thinking: bool | None = None

    @property
    def key(self) -> str:
        """A short hash: samples under the same key are interchangeable."""
        return hashlib.sha256(json.dumps(self.as_row()).encode()).hexdigest()[:12]

    def as_row(self) -> Row:
        """Everything that decides, as in `results.json`.

        Without the prompt's style where that is the bare problem, and without thinking where it is
        left to the template: neither adds anything then, whatever the style is called.
        """
        row: Row = asdict(self)
        prompt = prompts.fingerprint(self.style)
        if prompt:
            row["prompt"] = prompt
        else:
            del row["style"]
        if self.thinking is None:
            del row["thinking"]
        return row


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


class Engines:
    """Keeps an engine open from one evaluation to the next, so that it serves many checkpoints.

    Close it, or leave its `with` block, to end the engine.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._serves: tuple[PluginConfig, models.Dtype, str] | None = None

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine, if one is open."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._serves = None

    def open(self, source: Source) -> Engine:
        """An engine that samples this source: the one that is open, if its options are the same.

        Raises:
            ConfigError: no such engine, or an option it does not have.
            CheckpointError: the model cannot be loaded.
        """
        weights = models.fingerprint(models.source_of(source.model))
        wanted = (source.engine, source.dtype, weights)
        if self._engine is not None and self._serves == wanted:
            return self._engine
        model = models.open_model(source.model, source.dtype)
        if self._engine is not None and self._serves is not None:
            if self._serves[0] == source.engine:
                self._engine.switch(model)
                self._serves = wanted
                return self._engine
            self.close()
        module = plugins.load(plugins.Kind.ENGINE, source.engine.name)
        config = validate(cast(type[Frozen], module.Config), source.engine.options, "[engine]")
        self._engine = cast(Engine, module.build(config, model))
        self._serves = wanted
        return self._engine


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
        DataError: another process is sampling into this folder.
    """
    if k < 1:
        raise ConfigError(f"k = {k}: allowed are whole numbers from 1")
    path = folder / "samples.jsonl"
    with alone_in(folder, "sampling"):
        now = {p.id: prompt_sha256(p) for p in problems}
        keep_rows(path, lambda row: _is_of(row, now))
        held = {s.id: s for s in map(_from_row, read_rows(path))}
        wanted = {p.id: [i for i in range(k) if sample_id(p.id, i) not in held] for p in problems}
        progress(sum(k - len(indices) for indices in wanted.values()))
        missing = [problem for problem in problems if wanted[problem.id]]
        if missing:
            engine = open_engine()
            with RowWriter(path) as writer:
                for one in _draw(engine, missing, wanted, settings):
                    writer.write(_to_row(one))
                    held[one.id] = one
                    progress(1)
            _put_in_order(path, problems, held)
    return [held[sample_id(problem.id, index)] for problem in problems for index in range(k)]


def stored(folder: Path) -> dict[str, Sample]:
    """The samples that lie in a folder, by id."""
    return {s.id: s for s in map(_from_row, read_rows(folder / "samples.jsonl"))}


def sample_id(problem_id: str, index: int) -> str:
    """The id of a problem's sample."""
    return f"{problem_id}#{index}"


def prompt_sha256(problem: Problem) -> str:
    """A hash of what is asked, before the chat template."""
    return hashlib.sha256(problem.prompt.encode()).hexdigest()[:16]


def _is_of(row: Row, now: Mapping[str, str]) -> bool:
    """Whether a stored sample is of the prompt that its problem has now."""
    found = row["prompt_sha256"]
    return found == now.get(str(row["problem_id"]), found)


def _draw(
    engine: Engine,
    problems: Sequence[Problem],
    wanted: Mapping[str, Sequence[int]],
    settings: Settings,
) -> Iterator[Sample]:
    turns = {p.id: prompts.solver_turn(settings.style, p.prompt) for p in problems}
    requests = [
        Request(
            p.id,
            prompts.encode(engine.model.tokenizer, turns[p.id], settings.thinking),
            tuple(wanted[p.id]),
            turns[p.id],
        )
        for p in problems
    ]
    sampling = Sampling(settings.temperature, settings.max_tokens, settings.seed, logprobs=False)
    asked = {problem.id: prompt_sha256(problem) for problem in problems}
    return (_sample(one, asked[one.request_id]) for one in engine.stream(requests, sampling))


def _put_in_order(path: Path, problems: Sequence[Problem], held: Mapping[str, Sample]) -> None:
    """Sorts the file by problem and index, those of other problems last, if it is not sorted."""
    place = {problem.id: number for number, problem in enumerate(problems)}
    ordered = sorted(
        held.values(),
        key=lambda s: (place.get(s.problem_id, len(place)), s.problem_id, s.index),
    )
    if [s.id for s in ordered] != list(held):
        write_rows(path, map(_to_row, ordered))


def _sample(completion: Completion, asked: str) -> Sample:
    return Sample(
        id=sample_id(completion.request_id, completion.index),
        problem_id=completion.request_id,
        index=completion.index,
        text=completion.text,
        completion_tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        prompt_sha256=asked,
    )


def _to_row(one: Sample) -> Row:
    return {**asdict(one), "finish_reason": one.finish_reason.value}


def _from_row(row: Row) -> Sample:
    fields = {**row, "finish_reason": FinishReason(cast(str, row["finish_reason"]))}
    return Sample(**fields)  # type: ignore[arg-type]
