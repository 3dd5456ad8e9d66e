"""What there is to criticise: a run's rollouts, or the rows of a JSONL file, as attempts.

In: a run folder or a file. Out: a `Source`. A row of a file has its own problem, `prompt`, `answer` and
perhaps `solution`, with a `response`; or, like a run's rollouts, a `problem_id` of a task and a `text`.
It may hold a `critique` with its `case`, and the `first_wrong_step` if somebody knows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sdbench import problems, traces
from sdbench.audit import Judgement, claimed, read_off
from sdbench.config import DEFAULT_SUITE, PluginConfig, Suite, load_suite, validate
from sdbench.critics import oracle
from sdbench.critics.base import read_critique
from sdbench.critics.model import parse
from sdbench.errors import ConfigError, DataError
from sdbench.grading import Answer, Grader
from sdbench.records import (
    Attempt,
    Critique,
    CritiqueCase,
    FinishReason,
    Problem,
    Rollout,
    Verdict,
    VerdictStatus,
)
from sdbench.rundir import (
    JsonValue,
    Row,
    RunDir,
    critique_store,
    critique_store_of,
    parse_rows,
    read_rows,
)
from sdbench.traces import said

IN_FILE = "file"
RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of the command.

    Attributes:
        critic: Which one writes critiques; None audits those that are there.
        critic_options: `key=value`, over the suite's if it is the suite's critic.
        task: Of a file's rows.
        suite: Whose prompts, model and engine the critic goes by, with a file.
        limit: Takes the first so many attempts.
        out: Where results go; None for the source's own place, or with a critic one below it.
    """

    critic: str | None = None
    critic_options: tuple[str, ...] = ()
    task: str | None = None
    suite: str | None = None
    limit: int | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a path holds.

    Attributes:
        attempts: In their order.
        given: The critiques that are there.
        truths: What is wrong with the attempts of which the source says so, by rollout id.
        suite: Whose prompts, model and engine a critic goes by.
        own: Where results of the source's own critiques go: the run folder, or beside the file.
        store: Where critiques that cost something are kept.
    """

    attempts: Sequence[Attempt]
    given: Sequence[Critique]
    suite: Suite
    own: Path
    store: Path
    truths: Mapping[str, Judgement] = field(default_factory=dict)


def of_run(run: RunDir, choice: Choice) -> Source:
    """What a run left: the attempts that critiques were asked of, or for a critic to write all.

    Raises:
        ConfigError: an option that does not go with a run folder.
        DataError: this is no run folder, or its problems are not to be had any more.
    """
    refused = [f"--{key}" for key in ("task", "suite") if getattr(choice, key) is not None]
    if refused:
        raise ConfigError(
            f"a run folder has its own task and suite; found {', '.join(refused)}; allowed with it:"
            " --critic, --critic-option, --limit, --out"
        )
    suite = validate(Suite, run.read_manifest()["suite"], str(run.manifest))
    told = {str(row["rollout_id"]): row for row in read_rows(run.feedback)}
    rows = [row for row in read_rows(run.rollouts) if choice.critic or _was_asked(told, row)]
    rows = rows[: choice.limit]
    loaded = problems.of_suite(suite, "train", suite.data.train_problems) if rows else []
    by_id = {problem.id: problem for problem in loaded}
    attempts = [_attempt_of_run(row, by_id, run) for row in rows]
    critiques = [told[a.rollout.id]["critique"] for a in attempts if a.rollout.id in told]
    given = [read_critique(cast(Row, one)) for one in critiques if one is not None]
    return Source(attempts, given, suite, run.root, critique_store_of(run.root, RUNS))


def _was_asked(told: Mapping[str, Row], rollout: Row) -> bool:
    """Whether a critique was asked for of a rollout, whether or not there is one."""
    row = told.get(str(rollout["id"]))
    return row is not None and (row.get("critique") is not None or row["dropped"] == "critique")


def _attempt_of_run(row: Row, by_id: Mapping[str, Problem], run: RunDir) -> Attempt:
    problem = by_id.get(str(row["problem_id"]))
    if problem is None:
        raise DataError(
            f"{run.rollouts}: problem {row['problem_id']!r} is not in the run's task any more"
        )
    answer = row["answer"]
    verdict = Verdict(
        id=str(row["id"]),
        status=VerdictStatus(str(row["status"])),
        answer=None if answer is None else str(answer),
        verifier="",
    )
    return Attempt(problem, _rollout(row, problem, str(row["id"]), str(row["text"])), verdict)


def _rollout(row: Row, problem: Problem, name: str, text: str) -> Rollout:
    """A rollout whose tokens are not known, as no critic needs them."""
    cut = row.get("finish_reason") == FinishReason.LENGTH
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    return Rollout(name, problem.id, 0, 0, (), (), (), text, reason)


def of_file(path: Path, choice: Choice, grader: Grader) -> Source:
    """What the rows of a JSONL file are.

    Raises:
        DataError: no such file, no row, or one that lacks a field or holds what it must not.
        ConfigError: no such task or suite.
    """
    if not path.is_file():
        raise DataError(f"no such file or run folder: {path}")
    with path.open("rb") as file:
        rows = list(parse_rows(file, str(path)))[: choice.limit]
    if not rows:
        raise DataError(f"{path} holds no row")
    reader = _Reader(path, choice.task)
    attempts = reader.attempts(rows, grader)
    by_name = {one.rollout.id: (one, row) for one, row in zip(attempts, rows, strict=True)}
    if len(by_name) < len(rows):
        raise DataError(f"{path}: two rows share an id; allowed: each once")
    truths = {
        name: _truth(attempt, row, path)
        for name, (attempt, row) in by_name.items()
        if "first_wrong_step" in row
    }
    given = [_given(attempt, row, path) for attempt, row in by_name.values() if row.get("critique")]
    own = path.with_name(f"{path.stem}-critiques")
    return Source(attempts, given, _suite_for(choice), own, critique_store(RUNS), truths)


def _suite_for(choice: Choice) -> Suite:
    """The suite that was named, else the embedded one, with prompts that fit the task."""
    if choice.suite is not None:
        return load_suite(choice.suite)
    style = "organism" if choice.task in oracle.TASKS else "steps"
    update = {"prompts": style, "engine": PluginConfig(name="hf")}
    return load_suite(DEFAULT_SUITE).model_copy(update=update)


class _Reader:
    """Reads a file's rows as attempts: with their own problem, or with one of a task."""

    def __init__(self, path: Path, task: str | None) -> None:
        self._path, self._task = path, task
        self._by_id: dict[str, Problem] | None = None

    def attempts(self, rows: Sequence[Row], grader: Grader) -> list[Attempt]:
        """One attempt for each row."""
        pairs = [self._pair(line, row) for line, row in enumerate(rows, 1)]
        answers = [
            Answer(rollout.id, rollout.text, problem.answer, rollout.finish_reason)
            for problem, rollout in pairs
        ]
        return [
            Attempt(problem, rollout, verdict)
            for (problem, rollout), verdict in zip(pairs, grader.grade(answers), strict=True)
        ]

    def _pair(self, line: int, row: Row) -> tuple[Problem, Rollout]:
        place = f"{self._path}, line {line}"
        own = "prompt" in row
        problem = self._own(row, place) if own else self._of_task(row, place)
        text = _text_field(row, "response" if own else "text", place)
        return problem, _rollout(row, problem, str(row.get("id", line)), text)

    def _own(self, row: Row, place: str) -> Problem:
        prompt, solution = _text_field(row, "prompt", place), row.get("solution")
        return Problem(
            id=str(row.get("problem_id", prompt)),
            task=self._task or str(row.get("task", "")),
            split="",
            prompt=prompt,
            answer=_text_field(row, "answer", place),
            solution=None if solution is None else str(solution),
        )

    def _of_task(self, row: Row, place: str) -> Problem:
        if self._task is None:
            raise DataError(
                f"{place}: no field 'prompt'; found: {', '.join(row) or 'none'}",
                hint="name the task of its problems with --task",
            )
        if self._by_id is None:
            splits = problems.splits(self._task)
            loaded = [one for split in splits for one in problems.load(self._task, split)]
            self._by_id = {problem.id: problem for problem in loaded}
        name = _text_field(row, "problem_id", place)
        if name not in self._by_id:
            raise DataError(f"{place}: task {self._task} has no problem {name!r}")
        return self._by_id[name]


def _text_field(row: Row, name: str, place: str) -> str:
    if name not in row:
        raise DataError(f"{place}: no field {name!r}; found: {', '.join(row) or 'none'}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise DataError(f"{place}: {name!r} holds {kind}; allowed: text or a number")
    return str(value)


def _truth(attempt: Attempt, row: Row, path: Path) -> Judgement:
    """What a row says is wrong; of a step that was written to its end it is known to be case D."""
    step = row["first_wrong_step"]
    if step is None:
        return Judgement(None, CritiqueCase.CORRECT)
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise DataError(
            f"{path}, row {attempt.rollout.id}: 'first_wrong_step' is {step!r}; allowed: a number"
            " from 1, or null where no step is wrong"
        )
    steps = traces.parse(said(attempt.rollout.text)).steps
    wrong = step <= len(steps) and steps[step - 1].closed
    return Judgement(step, CritiqueCase.INCORRECT if wrong else None)


def _given(attempt: Attempt, row: Row, path: Path) -> Critique:
    """A row's critique; a case that it does not name is read off, and so is the step it claims."""
    name, critique = attempt.rollout.id, row["critique"]
    if isinstance(critique, dict):
        return _recorded({**critique, "rollout_id": name}, path)
    text = str(critique)
    written = parse(text) or parse(text, cased=False)
    if written is None:
        return Critique(name, IN_FILE, None, text, None, faults=("unparsable",))
    own, given = traces.parse(said(attempt.rollout.text)), written.trace
    case = _case(row.get("case"), path) or written.case or read_off(own, given)
    return Critique(name, IN_FILE, case, given.text, claimed(own, given, case))


def _recorded(row: Row, path: Path) -> Critique:
    """A critique as `feedback.jsonl` and `critiques.jsonl` hold it."""
    try:
        return read_critique(row)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path}, row {row['rollout_id']}: 'critique' is no text, and no record of a critique:"
            f" {error}"
        ) from error


def _case(value: JsonValue, path: Path) -> CritiqueCase | None:
    if value is None:
        return None
    allowed = [case.value for case in CritiqueCase]
    if value not in allowed:
        raise DataError(f"{path}: 'case' is {value!r}; allowed: {', '.join(allowed)}")
    return CritiqueCase(str(value))
