"""Checks every step of an arithmetic trace exactly and corrects the first wrong one.

No model: the checker of `sdbench.arithmetic` decides, so its critiques are right by construction.
They cost no tokens. Departure from the study: its critic is a language model that can err.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sdbench.arithmetic import expression
from sdbench.arithmetic.checker import Check, check, order_of
from sdbench.arithmetic.worked import Equation, write_steps
from sdbench.config import Frozen
from sdbench.critics.base import CriticSurroundings
from sdbench.errors import CriticError
from sdbench.records import Attempt, Critique, CritiqueCase, Problem

TASKS = ("arithmetic",)


class Config(Frozen):
    """No options."""


def build(config: Config, surroundings: CriticSurroundings) -> Oracle:
    """The oracle."""
    return Oracle()


def judges(task: str) -> bool:
    """Whether the oracle can check this task's steps."""
    return task in TASKS


def examine(problem: Problem, text: str) -> Check:
    """Checks one written trace.

    Raises:
        CriticError: the task's steps cannot be checked.
    """
    if not judges(problem.task):
        raise CriticError(
            f"the oracle critic cannot check task {problem.task!r}; allowed: {', '.join(TASKS)}"
        )
    return check(expression.parse(problem.prompt), text)


class Oracle:
    """See the module.

    Attributes:
        identity: None: its critiques cost nothing.
    """

    identity: str | None = None

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """Judges attempts; see `critics.base.Critic.critique`."""
        return (critique(attempt, "oracle", _in_solvers_order) for attempt in attempts)

    def close(self) -> None:
        """Nothing is held."""


def critique(attempt: Attempt, name: str, go_on: Callable[[Check], Sequence[Equation]]) -> Critique:
    """The exact critique of an attempt at an expression.

    Args:
        attempt: The attempt.
        name: Of the critic.
        go_on: The right steps that follow the correct ones of a trace.

    Raises:
        CriticError: the task's steps cannot be checked.
    """
    rollout = attempt.rollout
    found = examine(attempt.problem, rollout.text)
    case = _case(found)
    if case is CritiqueCase.CORRECT:
        return Critique(rollout.id, name, case, rollout.text[: found.trace.end], None)
    wrong = len(found.trace.steps) if found.first_wrong is None else found.first_wrong
    return Critique(rollout.id, name, case, _corrected(found, wrong, go_on(found)), wrong + 1)


def _in_solvers_order(found: Check) -> Sequence[Equation]:
    return found.progress.finish(order_of(found.progress.expression, found.equations))


def _case(found: Check) -> CritiqueCase:
    if found.complete and found.answer_right:
        return CritiqueCase.CORRECT
    if found.first_wrong is None and found.answer_right:
        return CritiqueCase.UNJUSTIFIED
    if found.trace.answer is None and (found.first_wrong is None or _cut_in_step(found)):
        return CritiqueCase.INCOMPLETE
    return CritiqueCase.INCORRECT


def _cut_in_step(found: Check) -> bool:
    """Whether the only step at fault is a last one that never closes."""
    steps = found.trace.steps
    return found.first_wrong == len(steps) - 1 and not steps[-1].closed


def _corrected(found: Check, wrong: int, rest: Sequence[Equation]) -> str:
    """The correct prefix verbatim, then the rest, then the answer."""
    steps = found.trace.steps
    prefix = found.trace.text[: steps[wrong].start if wrong < len(steps) else _end_of_steps(found)]
    answer = found.progress.expression.value
    return f"{prefix}{write_steps(rest, wrong + 1)}<answer>{answer}</answer>"


def _end_of_steps(found: Check) -> int:
    return found.trace.steps[-1].end if found.trace.steps else 0
