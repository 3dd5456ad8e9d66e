"""A frozen language model reads each rollout and gives it back, put right, as the study's scribe.

It is told the problem, what the solver said (not what it thought), and, with `sees_solution`, the right
answer and the task's worked solution; and to name one of the four cases and write the attempt anew.
All rollouts of an update are asked about at once, through any engine, greedily. What it thinks first
is stripped.

An answer that names no case, or whose steps and answer do not parse, is asked for again up to
`retries` times. Greedily it would come out the same, so those are drawn at temperature 0.7, each with
a seed of its own; the same attempt still gets the same critique. A rollout without a readable critique
then is dropped from its update and counted, as is one whose prompt does not fit into the critic's
context. Nothing is checked but the form: a critic can err, and may copy inexactly.

Source: 2606.11173, where it is Qwen/QwQ-32B at temperature 0. Departures: the retries; the prompt is the
project's own, since that one is not published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import ModuleType
from typing import Annotated, Literal, cast

from pydantic import Field

from sdbench import models, plugins, prompts, traces
from sdbench.config import Frozen, PluginConfig, validate
from sdbench.critics.base import CriticSurroundings, said
from sdbench.engines.base import Engine, Request, Sampling, generate
from sdbench.records import Attempt, Critique, CritiqueCase

SEED = 0
RETRY_TEMPERATURE = 0.7
_CASE = re.compile(r"<case>\s*([ABCD])\s*</case>")


class Config(Frozen):
    """Options.

    Attributes:
        model: `organism`, a folder or a hub id.
        engine: The engine and its options.
        dtype: Of the weights.
        max_tokens: Token cap of a critique, what it thinks included.
        sees_solution: Whether it is told the right answer and the worked solution.
        retries: How often an answer that cannot be read is asked for again.
    """

    model: str
    engine: PluginConfig
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_tokens: Annotated[int, Field(gt=0)] = 8192
    sees_solution: bool = True
    retries: Annotated[int, Field(ge=0)] = 1


def build(config: Config, surroundings: CriticSurroundings) -> ModelCritic:
    """The critic; its model is opened with the first attempts, if there ever are any.

    Raises:
        ConfigError: no such engine, an option it does not have, or no critic's prompt in this style.
    """
    prompts.template(surroundings.style, "critic")
    module = plugins.load(plugins.Kind.ENGINE, config.engine.name)
    options = validate(
        cast(type[Frozen], module.Config),
        config.engine.options,
        f"[critic] engine {config.engine.name}",
    )
    return ModelCritic(config, surroundings, module, options)


@dataclass(frozen=True, slots=True)
class Written:
    """A critique as its writer gave it.

    Attributes:
        case: The case named.
        trace: Closed steps and an answer.
    """

    case: CritiqueCase
    trace: traces.Trace


def parse(text: str) -> Written | None:
    """Reads what a critic wrote; None if it names no case, or steps or answer are not whole."""
    spoken = said(text)
    named = _CASE.search(spoken)
    start = -1 if named is None else spoken.find("<step_1>", named.end())
    if named is None or start < 0:
        return None
    read = traces.parse(spoken[start:])
    trace = traces.parse(read.text[: read.end])
    return Written(CritiqueCase(named[1]), trace) if trace.well_formed and trace.answer else None


class ModelCritic:
    """See the module."""

    def __init__(
        self,
        config: Config,
        surroundings: CriticSurroundings,
        module: ModuleType,
        options: Frozen,
    ) -> None:
        self._config, self._surroundings = config, surroundings
        self._module, self._options = module, options
        self._engine: Engine | None = None

    def critique(self, attempts: Sequence[Attempt]) -> list[Critique]:
        """Judges attempts; see `critics.base.Critic.critique`.

        Returns:
            One for each attempt; those that cannot be read have no case.

        Raises:
            CheckpointError: the critic's model cannot be loaded.
            EngineError: the engine cannot sample it.
        """
        engine = self._open()
        asked = {a.rollout.id: self._request(engine, a) for a in attempts}
        texts = dict.fromkeys(asked, "")
        tokens: Counter[str] = Counter()
        most = engine.model.max_length - self._config.max_tokens
        open_ids = [one.id for one in asked.values() if len(one.prompt_ids) <= most]
        for turn in range(1 + self._config.retries):
            requests = [
                Request(id, asked[id].prompt_ids, (turn,), asked[id].prompt) for id in open_ids
            ]
            temperature = RETRY_TEMPERATURE if turn else 0.0
            sampling = Sampling(temperature, self._config.max_tokens, SEED, logprobs=False)
            for one in generate(engine, requests, sampling) if requests else ():
                texts[one.request_id] = one.text
                tokens[one.request_id] += len(asked[one.request_id].prompt_ids) + one.tokens
            open_ids = [id for id in open_ids if parse(texts[id]) is None]
        return [_critique(a, texts[a.rollout.id], tokens[a.rollout.id]) for a in attempts]

    def close(self) -> None:
        """Ends the engine, if it has been opened; the next attempts open it again."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _open(self) -> Engine:
        if self._engine is None:
            model = models.open_model(self._config.model, self._config.dtype)
            self._engine = cast(Engine, self._module.build(self._options, model))
        return self._engine

    def _request(self, engine: Engine, attempt: Attempt) -> Request:
        problem = attempt.problem
        seen = self._config.sees_solution
        turn = prompts.critic_turn(
            self._surroundings.style,
            problem.prompt,
            said(attempt.rollout.text),
            problem.answer if seen else None,
            problem.solution if seen else None,
        )
        ids = prompts.encode(engine.model.tokenizer, turn, self._surroundings.thinking)
        return Request(attempt.rollout.id, ids, (0,), turn)


def _critique(attempt: Attempt, text: str, tokens: int) -> Critique:
    written = parse(text)
    if written is None:
        return Critique(attempt.rollout.id, "model", None, text, None, tokens)
    wrong = None if written.case is CritiqueCase.CORRECT else _copied(attempt, written.trace) + 1
    return Critique(attempt.rollout.id, "model", written.case, written.trace.text, wrong, tokens)


def _copied(attempt: Attempt, trace: traces.Trace) -> int:
    """How many steps from the first are the solver's own, word for word."""
    own = traces.parse(said(attempt.rollout.text)).steps
    pairs = zip(own, trace.steps, strict=False)  # Either may have more.
    return len(list(takewhile(lambda pair: pair[0].content == pair[1].content, pairs)))
