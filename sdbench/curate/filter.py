"""The study's filter: hard for the solver, answered in good form, and solvable for the critic.

In: the problems of one split, a solver and, if there is one, a critic. Out: a folder with every problem,
kept or dropped, and the figures that decided. A problem is dropped for the first of these that holds:

- `too easy`: the solver is right in 5/16 of its samples or more;
- `malformed`: fewer than 3/4 of its samples are closed steps in tags, then an answer that can be read,
  then nothing. The study asks for high formatting accuracy and gives no figure; 12 of 16 is this
  project's choice;
- `unsolved`: the critic, asked the question as a solver is and greedily, is not right. Only problems
  that passed the other two are put to it. Without a critic this is not applied, and the result says so.

Samples of both lie in `eval/` as those of `sdbench eval` do, and what is on disk is not drawn again:
other thresholds ask the solver nothing, and the critic only about problems that are new to it.

Source: 2606.11173, whose samples were 16 and whose bound was 5/16. Departures: the threshold for the
format; the critic's prompt and number of attempts, on which accounts of the study are silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import cast

from sdbench import eval_command, live, models, problems, provenance, traces
from sdbench.assembly import AUTO, check_engine
from sdbench.config import (
    DEFAULT_SUITE,
    PluginConfig,
    Suite,
    apply_override,
    load_suite,
    validate,
)
from sdbench.curate import kept
from sdbench.errors import ConfigError
from sdbench.eval_command import Choice
from sdbench.evaluate.evaluation import Plan, grade
from sdbench.evaluate.sample import Engines, sample
from sdbench.grading import Grader
from sdbench.records import Problem, Sample, Verdict
from sdbench.rundir import Row

FILTERS = Path("runs") / "filters"


class Reason(StrEnum):
    """Why a problem is dropped."""

    TOO_EASY = "too easy"
    MALFORMED = "malformed"
    UNSOLVED = "unsolved"


@dataclass(frozen=True, slots=True)
class Criteria:
    """Where the lines are drawn.

    Attributes:
        below: The solver's share of right samples lies below this.
        well_formed: Its share of well-formed samples is at least this.
    """

    below: Fraction = Fraction(5, 16)
    well_formed: Fraction = Fraction(3, 4)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the samples of one problem came to.

    Attributes:
        n: How many there are.
        right: With a right answer.
        well_formed: Well-formed, with an answer that can be read.
        verifiers: What graded them.
    """

    n: int
    right: int
    well_formed: int
    verifiers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """One problem with what decided about it.

    Attributes:
        problem: The problem.
        solver: Its samples by the solver.
        critic: Those by the critic, None if it was not asked.
        reason: Why it is dropped, None if it is kept.
    """

    problem: Problem
    solver: Tally
    critic: Tally | None
    reason: Reason | None

    def as_row(self) -> Row:
        """One line of `problems.jsonl`."""
        n = self.solver.n
        return {
            "id": self.problem.id,
            "fingerprint": problems.fingerprint([self.problem]),
            "kept": self.reason is None,
            "reason": self.reason,
            f"avg@{n}": _share(self.solver.right, n),
            "format": _share(self.solver.well_formed, n),
            "critic": None if self.critic is None else _share(self.critic.right, self.critic.n),
        }


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A filter to be applied.

    Attributes:
        solver: How the solver is sampled, on which problems, and where.
        critic: How the critic is, None without one.
        criteria: Where the lines are drawn.
    """

    solver: Plan
    critic: Plan | None
    criteria: Criteria


def share(option: str, text: str) -> Fraction:
    """A share as an option gives it, such as 5/16 or 0.75.

    Raises:
        ConfigError: it is no number from 0 to 1.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if not 0 <= value <= 1:
        raise ConfigError(f"{option} {text}: allowed are 0 to 1, as 5/16 or 0.75")
    return value


def folder_of(task: str, split: str, solver: str) -> Path:
    """Where a filter's result goes unless a folder is given."""
    return FILTERS / f"{task}-{split}" / solver.strip("./").replace("/", "--")


def plan_of_solver(model: str, choice: Choice) -> Plan:
    """How the solver is sampled.

    Args:
        model: A model's name.
        choice: As for `sdbench eval`, with one task. Without a suite the model is asked for tagged
            steps: the tiny solver in its own style, every other in the style `steps`.

    Raises:
        ConfigError: an option that is out of range, or no such task, split or engine.
        CheckpointError: there is no such model.
    """
    (plan,) = eval_command.plans_of(model, choice)
    plan = replace(plan, problems=choice.limit, trial=False, split_path=None)
    if plan.style == "plain":
        plan = replace(plan, style="organism" if model == models.ORGANISM else "steps")
    suite = _suite_of(choice)
    return plan if suite is None else replace(plan, thinking=suite.thinking.student)


def plan_of_critic(model: str, choice: Choice) -> Plan:
    """How the critic is sampled; see `plan_of_solver`.

    The suite's own critic has the engine and the token cap that the suite gives it; no critic has the
    options of the suite's engine, which were chosen for its solver.
    """
    suite = _suite_of(choice)
    own: Mapping[str, object] = {}
    if suite is not None and suite.critic.options.get("model") == model:
        own = suite.critic.options
    given = validate(PluginConfig, own.get("engine", {"name": AUTO}), "[critic] engine")
    name = choice.engine or given.name
    plan = plan_of_solver(model, replace(choice, engine=name, engine_options=()))
    options = dict(given.options) if given.name == plan.source.engine.name else {}
    for option in choice.engine_options:
        apply_override(cast(Row, options), option, "--critic-engine-option")
    engine = PluginConfig(name=plan.source.engine.name, options=options)
    check_engine(engine)
    return replace(
        plan,
        source=replace(plan.source, engine=engine),
        max_tokens=choice.max_tokens
        or cast("int | None", own.get("max_tokens"))
        or plan.max_tokens,
        thinking=plan.thinking if suite is None else suite.thinking.critic,
    )


def apply(inquiry: Inquiry, grader: Grader, engines: Engines) -> Row:
    """Samples what is missing, judges every problem, and writes `problems.jsonl` and `filter.json`.

    Returns:
        The contents of `filter.json`.

    Raises:
        DataError: the split is empty or too small, or another process samples the same.
        EngineError: a prompt does not fit.
    """
    judged = _judge(inquiry, grader, engines)
    found = {**_describe(inquiry, judged), **provenance.describe()}
    return kept.write(inquiry.solver.root, [one.as_row() for one in judged], found)


def summary(found: Row) -> str:
    """The result for people."""
    dropped = cast("dict[str, int | None]", found["dropped"])
    lines = [
        f"{found['task']}, {found['split']}: {found['problems']} problems, {found['kept']} kept"
    ]
    for reason, count in dropped.items():
        lines.append(f"  {reason:<12}{'not applied: no --critic' if count is None else count}")
    return "\n".join(lines)


def _suite_of(choice: Choice) -> Suite | None:
    """The suite that was named or is overridden, None for none."""
    if choice.suite is None and not choice.overrides:
        return None
    return load_suite(choice.suite or DEFAULT_SUITE, choice.overrides)


def _judge(inquiry: Inquiry, grader: Grader, engines: Engines) -> list[Judged]:
    """Every problem, in order."""
    problem_set = inquiry.solver.load()
    solved = _examine(inquiry.solver, problem_set, "solver", grader, engines)
    faults = {id: _fault(tally, inquiry.criteria) for id, tally in solved.items()}
    asked = [problem for problem in problem_set if faults[problem.id] is None]
    answered: Mapping[str, Tally] = {}
    if inquiry.critic is not None:
        answered = _examine(inquiry.critic, asked, "critic", grader, engines)
    unsolved = {id for id, tally in answered.items() if not tally.right}
    return [
        Judged(
            problem,
            solved[problem.id],
            answered.get(problem.id),
            Reason.UNSOLVED if problem.id in unsolved else faults[problem.id],
        )
        for problem in problem_set
    ]


def _examine(
    plan: Plan, problem_set: Sequence[Problem], role: str, grader: Grader, engines: Engines
) -> dict[str, Tally]:
    """Samples what is missing and grades; a tally for each problem."""
    with live.bar(role, len(problem_set) * plan.k) as advance:
        samples = sample(
            plan.folder,
            problem_set,
            plan.k,
            plan.settings,
            lambda: engines.open(plan.source),
            lambda done: advance(done, ""),
        )
    verdicts = grade(problem_set, samples, grader)
    drawn: dict[str, list[tuple[Sample, Verdict]]] = {problem.id: [] for problem in problem_set}
    for one, verdict in zip(samples, verdicts, strict=True):
        drawn[one.problem_id].append((one, verdict))
    return {id: _tally(pairs) for id, pairs in drawn.items()}


def _tally(drawn: Sequence[tuple[Sample, Verdict]]) -> Tally:
    return Tally(
        n=len(drawn),
        right=sum(verdict.correct for _, verdict in drawn),
        well_formed=sum(_is_well_formed(one, verdict) for one, verdict in drawn),
        verifiers=frozenset(verdict.verifier for _, verdict in drawn),
    )


def _is_well_formed(one: Sample, verdict: Verdict) -> bool:
    """A tagged trace from end to end, once the solver has thought, whose answer can be read."""
    return verdict.answer is not None and traces.parse(traces.said(one.text)).well_formed


def _fault(tally: Tally, criteria: Criteria) -> Reason | None:
    if Fraction(tally.right, tally.n) >= criteria.below:
        return Reason.TOO_EASY
    if Fraction(tally.well_formed, tally.n) < criteria.well_formed:
        return Reason.MALFORMED
    return None


def _describe(inquiry: Inquiry, judged: Sequence[Judged]) -> Row:
    """What was asked of whom, and what came of it."""
    solver, critic = inquiry.solver, inquiry.critic
    counts: Counter[Reason | None] = Counter(one.reason for one in judged)
    not_applied = {Reason.UNSOLVED} if critic is None else set()
    return {
        "task": solver.task,
        "split": solver.split,
        "problems": len(judged),
        "kept": counts[None],
        "dropped": {one: None if one in not_applied else counts[one] for one in Reason},
        "criteria": {
            f"avg@{solver.k} below": str(inquiry.criteria.below),
            "format at least": str(inquiry.criteria.well_formed),
            "critic right": None if critic is None else f"at least once in {critic.k}",
        },
        "solver": _asked(solver),
        "critic": None if critic is None else _asked(critic),
        "problems_sha256": problems.fingerprint([one.problem for one in judged]),
        "verifiers": [*sorted(_verifiers(judged))],
    }


def _verifiers(judged: Sequence[Judged]) -> set[str]:
    tallies = [tally for one in judged for tally in (one.solver, one.critic) if tally is not None]
    return {verifier for tally in tallies for verifier in tally.verifiers}


def _asked(plan: Plan) -> Row:
    return {
        "model": plan.source.model,
        "dtype": plan.source.dtype,
        "engine": plan.source.engine.model_dump(mode="json"),
        "k": plan.k,
        "settings": plan.settings.as_row(),
    }


def _share(c: int, n: int) -> Row:
    return {"n": n, "c": c, "value": c / n}
