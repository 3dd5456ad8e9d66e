"""A frozen language model reads each rollout and gives it back, put right, as the study's scribe.

It is told the problem, what the solver said (not what it thought), and, with `sees_solution`, the right
answer and the task's worked solution; and to name one of the four cases and write the attempt anew.
All rollouts of an update are asked about at once, through any engine, greedily, and each critique is
there as soon as the engine has written it. What the critic thinks first is stripped. The model is any
that can be loaded; `solver` is the suite's own as it is before any feedback, whatever it becomes.

Each critique is audited, as `sdbench.audit` says: it must name a case and be steps and an answer, copy
the steps before the error that it claims, not quote that error, come to the right answer, and let it
into no correct step. One that fails is asked for again up to `retries` times. Greedily it would come
out the same, so those are drawn at temperature 0.7, each with a seed of its own that follows from what
is asked; the same attempt still gets the same critique. What fails to the last keeps its faults: its
rollout is dropped from its update and counted by fault, as is one whose prompt does not fit into the
critic's engine. A critic can still err in what no audit sees without knowing the truth: which step is
the first wrong one.

A critic too weak to name a case may still write a trace: with `cases = "read"` the case is read off
what it makes of the attempt (`sdbench.audit.read_off`), whatever it names. The tiny solver's style asks
for no case, so there it always is, and nothing is shown to it but problem and attempt.

Source: 2606.11173, where it is Qwen/QwQ-32B at temperature 0. Departures: the audit, which
`audit = { verbatim = 0, refuse = [] }` reduces to the form; the retries; the prompt is the project's
own, since that one is not published.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Annotated, Literal, cast

from pydantic import Field

from sdbench import models, plugins, prompts, traces
from sdbench.audit import Gate, claimed, examine, read_off
from sdbench.config import Frozen, PluginConfig, validate
from sdbench.critics.base import CriticSurroundings, by_content, said, shared
from sdbench.engines.base import Engine, EngineConfig, Request, Sampling
from sdbench.errors import ConfigError
from sdbench.grading import Answer, Grader
from sdbench.records import Attempt, Critique, CritiqueCase, FinishReason

NAME = "model"
SOLVER = "solver"
# Of the critiques kept on disk: raised where the same options and texts lead to other critiques.
SCHEMA = 1
SEED = 0
RETRY_TEMPERATURE = 0.7
MAX_TOKENS = 8192
_CASE = re.compile(r"<case>\s*([ABCD])\s*</case>")


class Config(Frozen):
    """Options.

    Attributes:
        model: `solver`, `organism`, a folder or a hub id.
        engine: The engine and its options; None for the suite's.
        dtype: Of the weights; None for bfloat16, or for the solver the suite's.
        max_tokens: Token cap of a critique, what it thinks included; None for 8192, or half of what
            the engine has room for if that is less.
        sees_solution: Whether it is told the right answer and the worked solution.
        retries: How often a critique that fails is asked for again.
        audit: What a critique must be for a teacher to read it.
        cases: Whether the case is the one that the critic names, without which it cannot be read, or is
            read off.
    """

    model: str
    engine: PluginConfig | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    sees_solution: bool = True
    retries: Annotated[int, Field(ge=0)] = 1
    audit: Gate = Gate()
    cases: Literal["named", "read"] = "named"


def build(config: Config, surroundings: CriticSurroundings) -> ModelCritic:
    """The critic; its model is opened with the first attempts, if there ever are any.

    Raises:
        ConfigError: no such engine, an option it does not have, or no critic's prompt in this style.
    """
    prompts.template(surroundings.style, "critic")
    engine = config.engine or surroundings.engine
    module = plugins.load(plugins.Kind.ENGINE, engine.name)
    options = validate(
        cast(type[EngineConfig], module.Config), engine.options, f"[critic] engine {engine.name}"
    )
    return ModelCritic(_resolved(config, surroundings), surroundings, module, options)


def _resolved(config: Config, surroundings: CriticSurroundings) -> Config:
    """The options with the suite's own in place of what they leave to it."""
    of_solver = config.model == SOLVER
    return config.model_copy(
        update={
            "model": surroundings.model if of_solver else config.model,
            "dtype": config.dtype or (surroundings.dtype if of_solver else "bfloat16"),
            "engine": config.engine or surroundings.engine,
        }
    )


@dataclass(frozen=True, slots=True)
class Written:
    """A critique as its writer gave it.

    Attributes:
        case: The case named, None if none was asked for.
        trace: Closed steps and an answer.
    """

    case: CritiqueCase | None
    trace: traces.Trace


def parse(text: str, *, cased: bool = True) -> Written | None:
    """Reads what a critic wrote; total over all texts.

    Args:
        text: All that it wrote.
        cased: Whether it was asked to name a case, before its first step.

    Returns:
        None if it names no case though it was asked to, or steps or answer are not whole.
    """
    spoken = said(text)
    named = _CASE.search(spoken) if cased else None
    if cased and named is None:
        return None
    start = spoken.find("<step_1>", 0 if named is None else named.end())
    if start < 0:
        return None
    read = traces.parse(spoken[start:])
    trace = traces.parse(read.text[: read.end])
    if not trace.well_formed or not trace.answer:
        return None
    return Written(None if named is None else CritiqueCase(named[1]), trace)


@dataclass(frozen=True, slots=True)
class _Question:
    """An attempt, and what the critic is asked about it."""

    attempt: Attempt
    request: Request

    def drawn(self, turn: int) -> Request:
        """The request for its answer number `turn`, from 0."""
        return replace(self.request, indices=(turn,))


class ModelCritic:
    """See the module."""

    def __init__(
        self,
        config: Config,
        surroundings: CriticSurroundings,
        module: ModuleType,
        options: EngineConfig,
    ) -> None:
        self._config, self._surroundings = config, surroundings
        self._module, self._options = module, options
        self._cased = config.cases == "named" and prompts.names_case(surroundings.style)
        self._engine: Engine | None = None
        self._grader: Grader | None = None

    @cached_property
    def identity(self) -> str:
        """Its name and a hash of all that its critiques follow from besides what they are of.

        The engine's name is part of it, since engines round differently, and so are its options but
        those of memory and speed: a critique that was paid for outlives their tuning.
        """
        about = {
            "schema": SCHEMA,
            "options": self._config.model_dump(mode="json", exclude={"model", "engine"}),
            "engine": {
                "name": self._module.__name__.rpartition(".")[2],
                "options": self._options.model_dump(mode="json", exclude=set(self._options.effort)),
            },
            "weights": models.fingerprint(models.source_of(self._config.model)),
            "prompts": prompts.critic_fingerprint(self._surroundings.style),
            "thinking": self._surroundings.thinking,
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return f"{NAME}-{digest[:12]}"

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """Judges attempts; see `critics.base.Critic.critique`.

        Returns:
            One for each attempt; those that cannot be read have no case.

        Raises:
            ConfigError: `max_tokens` leaves no room for any prompt.
            CheckpointError: the critic's model cannot be loaded.
            EngineError: the engine cannot sample it.
        """
        alike = by_content(attempts)
        if not alike:
            return
        engine = self._open()
        asked = {key: self._question(engine, key, group[0]) for key, group in alike.items()}
        for key, critique in self._answers(engine, asked):
            yield from shared(critique, alike[key])

    def close(self) -> None:
        """Ends engine and grader, if they have been opened; the next attempts open them again."""
        for one in (self._engine, self._grader):
            if one is not None:
                one.close()
        self._engine = self._grader = None

    def _open(self) -> Engine:
        if self._engine is None:
            model = models.open_model(self._config.model, self._config.dtype or "bfloat16")
            self._engine = cast(Engine, self._module.build(self._options, model))
        return self._engine

    def _question(self, engine: Engine, key: str, attempt: Attempt) -> _Question:
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
        return _Question(attempt, Request(key, ids, (0,), turn))

    def _answers(
        self, engine: Engine, asked: Mapping[str, _Question]
    ) -> Iterator[tuple[str, Critique]]:
        """Critiques by key as they come; what fails is asked again until the last turn."""
        cap = self._cap(engine)
        most = engine.max_length - cap
        open_ = {key: one for key, one in asked.items() if len(one.request.prompt_ids) <= most}
        for key, one in asked.items():
            if key not in open_:
                yield key, _unread(one.attempt, "", 0, "overlong")
        tokens: Counter[str] = Counter()
        for turn in range(1 + self._config.retries):
            failed: dict[str, _Question] = {}
            temperature = RETRY_TEMPERATURE if turn else 0.0
            sampling = Sampling(temperature, cap, SEED, logprobs=False)
            requests = [one.drawn(turn) for one in open_.values()]
            for done in engine.stream(requests, sampling) if requests else ():
                key, one = done.request_id, open_[done.request_id]
                tokens[key] += len(one.request.prompt_ids) + done.tokens
                found = self._judged(one.attempt, done.text, tokens[key])
                if found.usable or turn == self._config.retries:
                    yield key, found
                else:
                    failed[key] = one
            open_ = failed

    def _cap(self, engine: Engine) -> int:
        room = engine.max_length
        cap = self._config.max_tokens or min(MAX_TOKENS, room // 2)
        if cap >= room:
            raise ConfigError(
                f"[critic] max_tokens = {cap}, but its engine has room for {room} tokens, prompt and"
                f" critique together; allowed: less than {room}"
            )
        return cap

    def _judged(self, attempt: Attempt, text: str, tokens: int) -> Critique:
        """What the critic wrote as a critique, with its faults."""
        written = parse(text, cased=self._cased)
        if written is None:
            return _unread(attempt, text, tokens, "unparsable")
        own = traces.parse(said(attempt.rollout.text))
        case = written.case or read_off(own, written.trace)
        wrong = claimed(own, written.trace, case)
        found = Critique(attempt.rollout.id, NAME, case, written.trace.text, wrong, tokens)
        finding = examine(attempt, found, answer_right=self._answer_right(attempt, found.text))
        return replace(found, faults=self._config.audit.faults(finding))

    def _answer_right(self, attempt: Attempt, text: str) -> bool | None:
        if not attempt.problem.answer.strip():
            return None
        if self._grader is None:
            self._grader = Grader()
        answer = Answer(attempt.rollout.id, text, attempt.problem.answer, FinishReason.STOP)
        (verdict,) = self._grader.grade([answer])
        return verdict.correct


def _unread(attempt: Attempt, text: str, tokens: int, fault: str) -> Critique:
    return Critique(attempt.rollout.id, NAME, None, text, None, tokens, (fault,))
