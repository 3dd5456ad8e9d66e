"""Checks the equations of a trace and goes on from its first wrong step by the worked solution.

No model: for tasks whose worked solutions are prose with equations, such as grade-school word
problems. A step is wrong if an equation in it is false, or if what it comes to can't be had:

- An equation is checked exactly (`sdbench.worked.equations`); one that is false but stands in the
  worked solution, such as a share of people rounded down, is taken for true.
- A result can be had if the worked solution, or an operation within one of its equations, comes to it,
  or if a later step takes it as an operand to come to such a result: other ways to the same values
  are right as well. Not so a result that was known before, unless the worked solution comes to it
  from the same numbers. In a solution with the right answer every result can be had.
- A step in words is wrong if it holds a number that is neither given, nor reached, nor a common one.
  Where nothing else is wrong but the answer is, or is missing, the steps in words at the end are
  not known to be right and are left out.

The correct steps are copied verbatim. Of the worked solution those steps follow that are still
needed: whose results the copied steps do not hold, unless all that their results are used for is
already there. The answer comes last, in the solver's format.

On arithmetic, whose worked solutions are digits modulo 10 in a notation of their own, steps are checked
as the critic `oracle` checks them, and the rest follows in the order of the worked solution: products
last to first, then the terms from the last, each joined to what the correct steps came to.

Source: the cases are those of 2606.11173. Departures: the critic there is a language model; this one
takes the worked solution's words where the solver's own break off, and where a wrong step agrees with
it in every value it cannot see the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sdbench import traces, worked
from sdbench.arithmetic.checker import Check
from sdbench.arithmetic.worked import Equation as Step
from sdbench.arithmetic.worked import reference_plan
from sdbench.config import Frozen
from sdbench.critics import oracle
from sdbench.critics.base import CriticSurroundings, said
from sdbench.errors import CriticError
from sdbench.records import Attempt, Critique, CritiqueCase, Problem
from sdbench.worked import equations
from sdbench.worked.equations import Equation

Values = frozenset[Fraction]

# Numbers that need no source in a step of words: small counts, and those of time, dozens and percent.
COMMON: Values = frozenset(map(Fraction, (*range(11), 12, 24, 30, 52, 60, 100, 365, 1000)))


class Config(Frozen):
    """No options."""


def build(config: Config, surroundings: CriticSurroundings) -> Aligned:
    """The critic."""
    return Aligned()


def judges(problem: Problem) -> bool:
    """Whether the problem has a worked solution with equations to align to."""
    if problem.solution is None:
        return False
    if oracle.judges(problem.task):
        return True
    return any(map(equations.read, worked.steps(problem.solution)))


class Aligned:
    """See the module.

    Attributes:
        identity: None: its critiques cost nothing.
    """

    identity: str | None = None

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """Judges attempts; see `critics.base.Critic.critique`."""
        return map(_of, attempts)

    def close(self) -> None:
        """Nothing is held."""


def _of(attempt: Attempt) -> Critique:
    if oracle.judges(attempt.problem.task):
        return oracle.critique(attempt, "aligned", _in_authors_order)
    return _critique(attempt)


def _in_authors_order(found: Check) -> Sequence[Step]:
    return found.progress.follow(reference_plan(found.progress.expression))


@dataclass(frozen=True, slots=True)
class _Line:
    """A step of the solver's or of the worked solution.

    Attributes:
        equations: Those that can be checked.
        numbers: All that are written in it.
    """

    equations: tuple[Equation, ...]
    numbers: Values


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the problem gives and its worked solution comes to.

    Attributes:
        steps: Of the worked solution, as text.
        lines: The same, read.
        given: Numbers in the problem.
        right: Values that the worked solution comes to.
        answer: The right answer, None if it is not a number.
    """

    steps: tuple[str, ...]
    lines: tuple[_Line, ...]
    given: Values
    right: Values
    answer: Fraction | None

    def allows(self, equation: Equation) -> bool:
        """Whether an equation is true, or the worked solution's own."""
        return equation.true or any(
            (own.operands, own.results) == (equation.operands, equation.results)
            for line in self.lines
            for own in line.equations
        )


def _critique(attempt: Attempt) -> Critique:
    ground = _ground(attempt.problem)
    text = said(attempt.rollout.text).lstrip()
    trace = traces.parse(text)
    lines = [_line(step.content) for step in trace.steps]
    false = _first_false(ground, trace, lines)
    # The grader reads the last answer, a trace ends with the first.
    graded = trace.answer is None or "</answer>" not in text[trace.end :]
    right = attempt.verdict.correct and graded and false == len(lines)
    if right and trace.answer is not None and _reaches(ground.answer, lines):
        copy = text[: trace.end]
        return Critique(attempt.rollout.id, "aligned", CritiqueCase.CORRECT, copy, None)
    kept, wrong = _judge(ground, lines, false)
    silent = trace.answer is None and attempt.verdict.answer is None
    only_cut = not wrong or (kept == len(lines) - 1 and not trace.steps[kept].closed)
    case = CritiqueCase.INCORRECT
    if right:
        case = CritiqueCase.UNJUSTIFIED
    elif silent and only_cut:
        case = CritiqueCase.INCOMPLETE
    written = _corrected(attempt.problem, ground, trace, lines, kept)
    return Critique(attempt.rollout.id, "aligned", case, written, kept + 1)


def _ground(problem: Problem) -> _Ground:
    if problem.solution is None:
        raise CriticError(
            f"the aligned critic needs a worked solution; problem {problem.id} of task"
            f" {problem.task} has none"
        )
    steps = worked.steps(problem.solution)
    lines = tuple(map(_line, steps))
    given = equations.numbers(problem.prompt)
    answer = _number(problem.answer)
    # Of one that the solution itself has rounded, only what it goes on with.
    reached = _union([e.values if e.true else e.results for line in lines for e in line.equations])
    stated = _union([line.numbers for line in lines]) - given
    right = reached | stated | ({answer} if answer is not None else frozenset())
    return _Ground(steps, lines, given, right, answer)


def _line(text: str) -> _Line:
    return _Line(equations.read(text), equations.numbers(text))


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").strip(" $%"))
    except (ValueError, ZeroDivisionError):
        return None


def _reaches(answer: Fraction | None, lines: Sequence[_Line]) -> bool:
    """Whether the answer stands in a step; where it is no number, whether there is any step."""
    return any(answer is None or answer in line.numbers for line in lines)


def _first_false(ground: _Ground, trace: traces.Trace, lines: Sequence[_Line]) -> int:
    """Index of the first step that never closes or holds a false equation, else their number."""
    for index, (step, line) in enumerate(zip(trace.steps, lines, strict=True)):
        if not step.closed or not all(map(ground.allows, line.equations)):
            return index
    return len(lines)


def _judge(ground: _Ground, lines: Sequence[_Line], false: int) -> tuple[int, bool]:
    """How many steps from the first are right, and whether the one after them is wrong."""
    had = _had(ground, lines[:false])
    sure = 0
    for index, line in enumerate(lines[:false]):
        before = lines[:index]
        known = ground.given | _union([e.values for one in before for e in one.equations])
        if line.equations:
            wrong = not had[index] or any(_goes_back(ground, e, before) for e in line.equations)
            sure = index + 1
        else:
            wrong = not line.numbers <= known | ground.right | COMMON
        if wrong:
            return index, True
    return (false, True) if false < len(lines) else (sure, False)


def _goes_back(ground: _Ground, equation: Equation, before: Sequence[_Line]) -> bool:
    """Whether an equation comes by other numbers than it should to what was known before it."""
    sources = [own for line in (*before, *ground.lines) for own in line.equations]
    known = ground.given | _results(before)
    return equation.results <= known and not any(
        _stands_for(equation, own, alike=True) for own in sources
    )


def _had(ground: _Ground, lines: Sequence[_Line]) -> list[bool]:
    """For each step, whether the results of its equations can be had."""
    useful = ground.right
    found: list[bool] = []
    for line in reversed(lines):
        whole, used = True, useful
        for equation in reversed(line.equations):
            whole = whole and not equation.results.isdisjoint(used)
            used |= equation.operands
        if whole:
            useful = used
        found.append(whole)
    return found[::-1]


def _corrected(
    problem: Problem, ground: _Ground, trace: traces.Trace, lines: Sequence[_Line], kept: int
) -> str:
    """The correct steps verbatim, then the rest of the worked solution, then the answer."""
    prefix = ""
    if kept and kept == len(lines):
        prefix = f"{trace.text[: trace.steps[-1].end]}\n"
    elif kept:
        prefix = trace.text[: trace.steps[kept].start]
    rest = _needed(ground, lines[:kept])
    return prefix + worked.write([ground.steps[index] for index in rest], problem.answer, kept + 1)


def _needed(ground: _Ground, kept: Sequence[_Line]) -> list[int]:
    """Indices of the worked solution's steps that the kept ones do not make unnecessary."""
    held = _held(ground, kept)
    if held and held[-1]:
        return []
    for index in reversed(range(len(held))):
        users = _users(ground, index)
        held[index] = held[index] or (bool(users) and all(held[user] for user in users))
    return [index for index, there in enumerate(held) if not there]


def _held(ground: _Ground, kept: Sequence[_Line]) -> list[bool]:
    """For each step of the worked solution, whether the kept steps come to the same results.

    A kept equation stands for one of the worked solution's: for that with the same operands, if there
    is one, else for the first with the same result.
    """
    free = [equation for line in kept for equation in line.equations]
    missing = [list(line.equations) for line in ground.lines]
    for alike in (True, False):
        for wanted in missing:
            for own in tuple(wanted):
                found = next((e for e in free if _stands_for(e, own, alike=alike)), None)
                if found is not None:
                    wanted.remove(own)
                    free.remove(found)
    reached = _results(kept)
    held = []
    for line, left in zip(ground.lines, missing, strict=True):
        outputs = _outputs(ground, line)
        held.append(not left if line.equations else bool(outputs) and outputs <= reached)
    # Another way to the answer; an equation that stands for an earlier step may equal it by chance.
    if held and any(ground.answer in equation.results for equation in free):
        held[-1] = True
    return held


def _stands_for(kept: Equation, own: Equation, *, alike: bool) -> bool:
    same = not kept.results.isdisjoint(own.results)
    return same and (not alike or kept.operands == own.operands)


def _users(ground: _Ground, index: int) -> list[int]:
    """The later steps that take a result of this one; for one without results, the next."""
    later = range(index + 1, len(ground.lines))
    outputs = _outputs(ground, ground.lines[index])
    if not outputs:
        return list(later[:1])
    return [user for user in later if outputs & ground.lines[user].numbers]


def _outputs(ground: _Ground, line: _Line) -> Values:
    """What a step of the worked solution comes to: its results, or what it states anew."""
    return _results([line]) if line.equations else line.numbers - ground.given


def _results(lines: Sequence[_Line]) -> Values:
    return _union([equation.results for line in lines for equation in line.equations])


def _union(sets: Sequence[Values]) -> Values:
    return frozenset[Fraction]().union(*sets)
