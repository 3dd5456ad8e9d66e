r"""CHAMP's marks: solutions written by models, and where each first goes wrong, as people found it.

The package champ-dataset (MIT) holds, for each of the 270 problems of 2401.06961, two solutions by one
of four models, one with the problem's concepts and hints in the prompt and one without. In each of
these 540 its annotators marked the first wrong passage, or found no mistake. All 540 are kept, also
those of problems whose answer no program can check.

A mark is a range of characters, so steps are made here, by a rule that does not see the marks:

- a paragraph is a step, as in ProcessBench (2412.06559);
- but one that begins with a formula, or follows a colon or a comma, belongs to the step before it.

The first wrong step is the one in which the mark begins. Eight of the 444 marks run on into the next
step. The answer is the sentence in which the model, asked right after, summed its solution up; a
solution that was cut short has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdbench import traces
from sdbench.records import Problem
from sdbench.sources.champ import gradable_answer, solution_of
from sdbench.sources.packages import require

if TYPE_CHECKING:
    import champ_dataset

TASK = "champ"
REQUIRES = "champ-dataset==1.0.0"

_PARAGRAPHS = re.compile(r"\n\s*\n")
_FORMULA = re.compile(r"\\\[|\$\$|\\begin\b|[=<>\u2264\u2265\u21d2]")
_OPEN_ENDS = (":", ",")


@dataclass(frozen=True, slots=True)
class MarkedSolution:
    """A model's solution with the mark that a person set.

    Attributes:
        id: Names it: problem, model, and what else was in the prompt.
        problem: The problem; its answer is as published where no program can check it.
        author: The model that wrote it.
        category: Of the problem, such as `Polynomial`.
        steps: The solution.
        answer: The model's own summary of its answer, None if the solution was cut short.
        first_wrong: Number, from 1, of the step in which the mark begins; None for no mistake.
    """

    id: str
    problem: Problem
    author: str
    category: str
    steps: tuple[str, ...]
    answer: str | None
    first_wrong: int | None

    @property
    def trace(self) -> str:
        """The solution as tagged steps with the answer, one a line as the solver is asked for."""
        return traces.join(self.steps, self.answer, between="\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters `start` to `end` (exclusive) of a solution."""

    start: int
    end: int


def load() -> list[MarkedSolution]:
    """All marked solutions, in the package's order.

    Raises:
        DataError: the package is missing or of another version.
    """
    require(REQUIRES, TASK)
    import champ_dataset

    return [
        one for problem in champ_dataset.load("v0").problems.values() for one in _marked(problem)
    ]


def passages(text: str) -> list[Passage]:
    """Where the steps of a solution stand, by the module's rule; blank ends belong to none."""
    found: list[Passage] = []
    for paragraph in _paragraphs(text):
        words = text[paragraph.start : paragraph.end]
        if found and (
            _FORMULA.match(words) or text[found[-1].start : found[-1].end].endswith(_OPEN_ENDS)
        ):
            paragraph = Passage(found.pop().start, paragraph.end)
        found.append(paragraph)
    return found


def _paragraphs(text: str) -> Iterator[Passage]:
    start = 0
    for end in [*(gap.start() for gap in _PARAGRAPHS.finditer(text)), len(text)]:
        words = text[start:end]
        if words.strip():
            first = start + len(words) - len(words.lstrip())
            yield Passage(first, start + len(words.rstrip()))
        start = end


def _marked(problem: champ_dataset.Problem) -> Iterator[MarkedSolution]:
    record = Problem(
        id=problem.identifier,
        task=TASK,
        split="test",
        prompt=problem.text,
        answer=gradable_answer(problem) or problem.answer,
        solution=solution_of(problem),
    )
    for prompt, mark in problem.fws_annotations.items():
        found = passages(mark.text)
        summary = problem.conversations[prompt].messages[-1].text
        yield MarkedSolution(
            id=f"{problem.identifier}|{prompt}",
            problem=record,
            author=mark.author,
            category=problem.category,
            steps=tuple(mark.text[one.start : one.end] for one in found),
            answer=" ".join(summary.split()) if summary else None,
            first_wrong=_first_wrong(found, mark),
        )


def _first_wrong(found: list[Passage], mark: champ_dataset.FWSAnnotation) -> int | None:
    """The number of the step that holds the first character of a mark that is not blank."""
    if mark.start_idx is None:
        return None
    words = mark.text[mark.start_idx : mark.end_idx]
    first = mark.start_idx + len(words) - len(words.lstrip())
    return next(number for number, one in enumerate(found, 1) if first < one.end)
