r"""CHAMP: competition problems with solutions written step by step.

The package champ-dataset (MIT) holds the 270 problems of 2401.06961. Their answers are phrased for a
human judge. This task keeps the 195 whose answer a program can check, and leaves out 75:

- 71 whose answer is a word or a sentence, most often "Yes", "No" or "No integer solutions", or has no
  form that the grader compares, such as floor functions or sums that run to n. A yes or no is right
  by chance half the time, which would reward a wrong derivation;
- 4 that ask for a factorisation, which algebra cannot tell from the product in the question.

From the other answers remarks are taken away, such as "(i.e., all values)" or "is the only possible
value"; of two equivalent forms the second is kept, which is the evaluated one; solutions in several
variables become tuples. One answer is not what its own solution derives, and is corrected.
Questions and steps stay as they are. Splits are dealt out by hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdbench.sources.documents import Document, as_dataset, by_hash
from sdbench.sources.packages import require

if TYPE_CHECKING:
    from champ_dataset import Problem
    from datasets import Dataset

_REWRITES = (
    (r"\u2212", "-"),
    (r" \((?:i\.e\.|no |none ).*\)$", ""),
    (r"^.*, or (?:equivalently|an equivalent form such as) (.*)$", r"\1"),
    (r", or approximately .*$", ""),
    (r"^The limit exists and is equal to (.*)$", r"\1"),
    (r"^The only possible value for the limit is (.*)$", r"\1"),
    (r"^(\S+) (?:is the only possible value|values|roots|pairs|inequalities|times)$", r"\1"),
    (r"\([a-z]=(\d+), [a-z]=(\d+)\)", r"(\1, \2)"),
    (r"^[a-z]=(\d+), [a-z]=(\d+) and [a-z]=(\d+), [a-z]=(\d+)$", r"(\1, \2), (\3, \4)"),
    (r"^([a-z])=([a-z])=(\d+)$", r"\1=\3, \2=\3"),
    (r"\bC\(([^(),]+), ([^(),]+)\)", r"\\binom{\1}{\2}"),
    (r",? and ", ", "),
)
_WORDS = re.compile(r"\b(?!sqrt|binom)[A-Za-z]{3,}|\bNo\b|\.\.\.|\w±")
_FACTORISATION = re.compile(r"\bFactorize\b")
# The last step of this problem's solution finds (a+2b)/3, and so does a reader.
_CORRECTED = {"P_Sequence_30": "(a+2b)/3"}


def load(*, requires: str, sizes: Mapping[str, int], **_: object) -> dict[str, Dataset]:
    """Data sets by split.

    Args:
        requires: The package with its version, from the task's metadata.
        sizes: Problems of each split, likewise.

    Raises:
        DataError: the package is missing or of another version.
    """
    require(requires, "champ")
    import champ_dataset

    problems = champ_dataset.load("v0").problems.values()
    documents = [document for problem in problems if (document := _document(problem))]
    splits = by_hash(documents, sizes, "champ")
    return {split: as_dataset(documents) for split, documents in splits.items()}


def gradable_answer(problem: Problem) -> str | None:
    """The right answer as the grader takes it, None if it cannot check this problem's answers."""
    if _FACTORISATION.search(problem.text):
        return None
    return checkable(_CORRECTED.get(problem.identifier, problem.answer))


def solution_of(problem: Problem) -> str:
    """The worked solution, one step a line."""
    return "\n".join(step.text for step in problem.solution.steps)


def _document(problem: Problem) -> Document | None:
    answer = gradable_answer(problem)
    if answer is None:
        return None
    return {
        "id": problem.identifier,
        "question": problem.text,
        "answer": answer,
        "solution": solution_of(problem),
    }


def checkable(answer: str) -> str | None:
    """An answer without the remarks meant for a human judge, None if words are left."""
    for pattern, replacement in _REWRITES:
        answer = re.sub(pattern, replacement, answer)
    return None if _WORDS.search(answer) else answer
