"""The functions that the task definitions in `tasks/` name, so that lm-eval scores as we do.

lm-eval calls `process_results` with the gold document and all completions of one problem. It gets
what `score` computes from the same grader and the same statistics: one truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from sdbench import stats
from sdbench.grading import Answer, Grader
from sdbench.records import FinishReason


def process_results(
    document: Mapping[str, object], results: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores the completions of one problem.

    Args:
        document: A task's document with an `answer`.
        results: One filter's list of k completions.

    Returns:
        `avg@k`, `pass@k` and `maj@k` of this problem, k being the number of completions.
    """
    completions = results[0]
    k = len(completions)
    # lm-eval does not hand on finish reasons; a completion without an answer is wrong either way.
    answers = [
        Answer(str(index), text, str(document["answer"]), FinishReason.STOP)
        for index, text in enumerate(completions)
    ]
    verdicts = _grader().grade(answers)
    outcomes = {"": [verdict.correct for verdict in verdicts]}
    votes = {"": [stats.Vote(verdict.answer, verdict.correct) for verdict in verdicts]}
    return {
        f"avg@{k}": stats.avg_by_problem(outcomes)[""],
        f"pass@{k}": stats.pass_by_problem(outcomes, k)[""],
        f"maj@{k}": stats.maj_by_problem(votes, k)[""],
    }


@cache
def _grader() -> Grader:
    """One grader for the process; its workers end with it."""
    return Grader()
