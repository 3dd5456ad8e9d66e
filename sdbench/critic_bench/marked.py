"""Traces of which it is known where they first go wrong.

Two data sets. `champ`: 540 solutions that four models wrote, marked by hand (`sources.champ_marks`).
`arithmetic`: rollouts of the tiny solver, one on each of the validation problems that the per-token
analysis reads too, checked exactly (`arithmetic.checker`).

What a critic is given never holds what is known. A verdict is the grader's; for `champ` it is always
`unparsable`, or `truncated`, since its answers are whole sentences, which the grader does not compare,
and a verdict after the marks would give them away.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from sdbench import assembly
from sdbench.analyze.advantage import common_groups
from sdbench.arithmetic import checker, expression
from sdbench.config import load_suite
from sdbench.critics.base import content_key
from sdbench.errors import ConfigError
from sdbench.grading import Grader
from sdbench.plugins import unknown
from sdbench.records import Attempt, FinishReason, Rollout, Verdict, VerdictStatus
from sdbench.sources import champ_marks
from sdbench.sources.champ_marks import MarkedSolution

SUITE = "tiny"
SOLVER = "tiny solver"
CHOSEN = "by a hash of their ids, the same share of each author's"
UNGRADED = "none: the answer is a sentence"


@dataclass(frozen=True, slots=True)
class Marked:
    """A trace and where it first goes wrong.

    Attributes:
        attempt: The trace as a critic gets it.
        author: The model that wrote it.
        category: Of its problem.
        steps: How many steps are written.
        first_wrong: Number, from 1, of the first wrong step; that after the last one if a step is
            missing or the answer is wrong; None if all is right.
    """

    attempt: Attempt
    author: str
    category: str
    steps: int
    first_wrong: int | None

    @property
    def id(self) -> str:
        """Names the trace."""
        return self.attempt.rollout.id

    @property
    def problem_id(self) -> str:
        """Its problem: traces of one problem are not independent."""
        return self.attempt.problem.id


def names() -> list[str]:
    """Names of the data sets."""
    return sorted(_LOADERS)


def load(data: str) -> list[Marked]:
    """All traces of a data set, in its order.

    Raises:
        ConfigError: no such data set.
        DataError: the package that it is made from is missing or of another version.
    """
    if data not in _LOADERS:
        raise unknown("data", data, names())
    return _LOADERS[data]()


def chosen(traces: Sequence[Marked], limit: int | None) -> list[Marked]:
    """So many traces, in their order, by a rule that looks at their ids and authors only.

    Each author's traces are put in the order of a hash, and of each as large a share is taken, but for
    rounding. A larger limit keeps what a smaller one took.

    Args:
        traces: Of one data set.
        limit: How many; None takes all.

    Raises:
        ConfigError: there are fewer than `limit`.
    """
    if limit is None:
        return list(traces)
    if limit > len(traces):
        raise ConfigError(
            f"--limit {limit}: the data hold {len(traces)} traces; allowed: 1 to that"
        )
    by_author: defaultdict[str, list[str]] = defaultdict(list)
    for trace in sorted(traces, key=lambda one: _hash(one.id)):
        by_author[trace.author].append(trace.id)
    places = {
        id: ((rank + 0.5) / len(ids), _hash(id))
        for ids in by_author.values()
        for rank, id in enumerate(ids)
    }
    taken = set(sorted(places, key=places.__getitem__)[:limit])
    return [trace for trace in traces if trace.id in taken]


def fingerprint(traces: Sequence[Marked]) -> str:
    """A hash of the traces and what is known of them: results under equal ones can be compared."""
    digest = hashlib.sha256()
    for trace in traces:
        known = f"{trace.id}\0{content_key(trace.attempt)}\0{trace.first_wrong}\0"
        digest.update(known.encode())
    return digest.hexdigest()[:16]


def counts(traces: Sequence[Marked], of: Callable[[Marked], str]) -> dict[str, int]:
    """How many traces there are of each author or category, by name."""
    return dict(sorted(Counter(map(of, traces)).items()))


def _hash(id: str) -> str:
    return hashlib.sha256(f"critic-bench\0{id}".encode()).hexdigest()


def _arithmetic() -> list[Marked]:
    """With the sampling settings of the suite and a fixed seed, so always the same."""
    suite = load_suite(SUITE)
    with Grader() as grader, closing(assembly.untrained_engine(suite)) as engine:
        groups = common_groups(suite, engine, grader)
    return [_checked(attempt) for group in groups for attempt in group.attempts]


def _checked(attempt: Attempt) -> Marked:
    problem = expression.parse(attempt.problem.prompt)
    found = checker.check(problem, attempt.rollout.text)
    needed = len(problem.terms) - 1 + sum(term.is_product for term in problem.terms)
    written = len(found.trace.steps)
    first_wrong = None
    if not (found.complete and found.answer_right):
        first_wrong = 1 + (written if found.first_wrong is None else found.first_wrong)
    return Marked(attempt, SOLVER, f"{needed} steps needed", written, first_wrong)


def _champ() -> list[Marked]:
    return [_marked(solution) for solution in champ_marks.load()]


def _marked(solution: MarkedSolution) -> Marked:
    """Of a text without tokens, which no critic needs; cut, if it has no answer."""
    cut = solution.answer is None
    rollout = Rollout(
        id=solution.id,
        problem_id=solution.problem.id,
        update=0,
        index=0,
        prompt_ids=(),
        completion_ids=(),
        sampling_logprobs=(),
        text=solution.trace,
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )
    status = VerdictStatus.TRUNCATED if cut else VerdictStatus.UNPARSABLE
    return Marked(
        attempt=Attempt(solution.problem, rollout, Verdict(solution.id, status, None, UNGRADED)),
        author=solution.author,
        category=solution.category,
        steps=len(solution.steps),
        first_wrong=solution.first_wrong,
    )


_LOADERS: dict[str, Callable[[], list[Marked]]] = {"arithmetic": _arithmetic, "champ": _champ}
