"""Grades responses: extraction, then the exact path, then algebra; equal questions asked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdbench.grading import exact
from sdbench.grading.extract import extract_answer
from sdbench.grading.symbolic import Finding, SymbolicWorker, verifier
from sdbench.records import FinishReason, Verdict, VerdictStatus

TIMEOUT_SECONDS = 5.0

_STATUS = {
    Finding.EQUAL: VerdictStatus.CORRECT,
    Finding.DIFFERENT: VerdictStatus.INCORRECT,
    Finding.UNPARSABLE: VerdictStatus.INCORRECT,
    Finding.TIMEOUT: VerdictStatus.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to grade.

    Attributes:
        id: Id of the sample or rollout.
        response: The whole completion.
        gold: The right answer.
        finish_reason: Why the completion ended.
    """

    id: str
    response: str
    gold: str
    finish_reason: FinishReason


class Grader:
    """Grades; close it, or leave its `with` block, to end its worker.

    Args:
        timeout_seconds: Deadline of one comparison by algebra.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._worker = SymbolicWorker(timeout_seconds)
        self._known: dict[tuple[str, str], Finding] = {}

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker process, if one runs."""
        self._worker.close()

    def grade(self, answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict for each response, in their order.

        A response that states no answer is `truncated` if it ended at the token cap, else
        `unparsable`; one whose answer cannot be read as mathematics is `incorrect`.

        Raises:
            GradingError: the worker does not start.
        """
        return [self._verdict(answer) for answer in answers]

    def _verdict(self, answer: Answer) -> Verdict:
        found = extract_answer(answer.response)
        if found is None:
            cut = answer.finish_reason is FinishReason.LENGTH
            status = VerdictStatus.TRUNCATED if cut else VerdictStatus.UNPARSABLE
            return Verdict(answer.id, status, None, exact.VERIFIER)
        stated, gold = exact.canonical(found), exact.canonical(answer.gold)
        equal = exact.decide(gold, stated)
        if equal is not None:
            status = VerdictStatus.CORRECT if equal else VerdictStatus.INCORRECT
            return Verdict(answer.id, status, stated, exact.VERIFIER)
        return Verdict(answer.id, _STATUS[self._algebra(gold, stated)], stated, verifier())

    def _algebra(self, gold: str, stated: str) -> Finding:
        if (gold, stated) not in self._known:
            self._known[gold, stated] = self._worker.compare(gold, stated)
        return self._known[gold, stated]
