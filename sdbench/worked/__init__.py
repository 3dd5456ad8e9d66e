r"""Worked solutions in prose, cut into the tagged steps that `prompts/steps` asks of a solver.

In: a task's solution, such as "There are 9*2 = 18 pink tiles.\nThere are 40-9-18 = 13 green.\n#### 13".
Out: its steps, one a line, and of a line with several equations one a sentence; lines without an
equation go with the one they lead up to. The last line of the answer, `#### 13`, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from sdbench.arithmetic.expression import parse
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.errors import DataError
from sdbench.prompts import Style
from sdbench.records import Problem

_CALCULATION = re.compile(r"<<[^<>]*>>")
_ANSWER = re.compile(r"\n?[ \t]*####[^\n]*\s*\Z")
_MARK = re.compile(r"^\s*(?:[-•*]|\d{1,2}[.)])\s+")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\be\.g\.)[ \t]+(?=\S)"
)


def steps(solution: str) -> tuple[str, ...]:
    """The steps of a worked solution, in their order; list marks and blank lines are left out."""
    text = _ANSWER.sub("", _CALCULATION.sub("", solution))
    lines = [_MARK.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not any("=" in line for line in lines):
        return tuple(lines)
    found: list[str] = []
    before: list[str] = []
    for line in lines:
        if "=" not in line:
            before.append(line)
            continue
        for part in _parts(line):
            found.append("\n".join([*before, part]))
            before.clear()
    return (*found, *(["\n".join(before)] if before else []))


def write(contents: Sequence[str], answer: str, first: int = 1) -> str:
    r"""Writes steps and the answer in the solver's format, `<answer>\boxed{13}</answer>`.

    Args:
        contents: What stands in each step.
        answer: The right answer.
        first: Number of the first step.
    """
    numbered = [f"<step_{n}>{content}</step_{n}>" for n, content in enumerate(contents, first)]
    return "\n".join([*numbered, f"<answer>\\boxed{{{answer}}}</answer>"])


def tagged(solution: str, answer: str) -> str:
    """A worked solution as a solver would write it: a target for supervised training."""
    return write(steps(solution), answer)


def in_solvers_notation(problem: Problem, style: Style) -> str:
    """The worked solution of a problem in the notation that a style asks of the solver.

    Raises:
        DataError: the problem has no worked solution.
    """
    if style == "organism":
        expression = parse(problem.prompt)
        return write_solution(carry_out(expression, plan(expression, Order.INTERLEAVED)))
    return tagged(solution_of(problem), problem.answer)


def solution_of(problem: Problem) -> str:
    """The worked solution of a problem, as its author wrote it.

    Raises:
        DataError: it has none.
    """
    if problem.solution is None:
        raise DataError(
            f"problem {problem.id} of task {problem.task} has no worked solution,"
            " which this condition needs"
        )
    return problem.solution


def _parts(line: str) -> list[str]:
    """A line cut before every sentence with an equation but the first; what is before it stays."""
    sentences = _SENTENCE_END.split(line)
    lead = len(list(takewhile(lambda sentence: "=" not in sentence, sentences))) + 1
    parts = [" ".join(sentences[:lead])]
    for sentence in sentences[lead:]:
        if "=" in sentence:
            parts.append(sentence)
        else:
            parts[-1] += f" {sentence}"
    return parts
