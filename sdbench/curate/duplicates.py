"""Near-duplicates: which evaluation problems resemble a training problem.

In: training and evaluation problems. Out: the pairs that resemble each other, and how many of the
evaluation problems are touched. What is compared is the question as words: Unicode compatibility forms
and capitals are made alike, blanks do not count, a number is one word and so is each mark of
punctuation. The instruction that a task puts around its questions is taken off, and so are the words
with which all questions of a task begin or end, if there are at least 50 of them: an instruction within
the data would make all of them resemble each other.

Two measures, both exact, by an inverted index and not by sketches:

- the Jaccard index of the sets of shingles, runs of a few words: common ones over all. It finds
  questions that were reworded or filled with other names;
- a common run of many words, 13 as in 2005.14165 or 8 as in 2204.02311, whatever stands around it.
  Departure: there a run that is frequent in the corpus does not count, here every run does.

With `ignore_numbers` all numbers are alike, so two problems from one template resemble each other
whatever it was filled with.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import cast

from sdbench import problems
from sdbench.errors import DataError
from sdbench.records import Problem
from sdbench.rundir import Row, to_row

_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
ANY_NUMBER = "0"
SHOWN_PAIRS = 10
ENOUGH_TO_SEE_AN_INSTRUCTION = 50

Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """What counts as a resemblance.

    Attributes:
        threshold: The smallest Jaccard index of a near-duplicate.
        shingle: Words of a shingle.
        ngram: Words of a common run that counts by itself.
        ignore_numbers: Whether all numbers are alike.
    """

    threshold: float = 0.5
    shingle: int = 3
    ngram: int = 13
    ignore_numbers: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A training and an evaluation problem that resemble each other, and by how much."""

    training: Problem
    evaluation: Problem
    similarity: float

    def as_row(self) -> Row:
        """Which two, as JSON."""
        return {
            "training": _name(self.training),
            "evaluation": _name(self.evaluation),
            "similarity": self.similarity,
        }


@dataclass(frozen=True, slots=True)
class Touched:
    """How many evaluation problems of one split resemble a training problem.

    Attributes:
        task: The task.
        split: The split.
        problems: How many there are.
        identical: With the very words of a training problem, numbers included.
        near: With a Jaccard index of at least the threshold.
        ngram: With a common run of words.
        any: By at least one of these.
    """

    task: str
    split: str
    problems: int
    identical: int
    near: int
    ngram: int
    any: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison found.

    Attributes:
        measure: How it was made.
        training: How many training problems.
        splits: Of the evaluation problems.
        near_pairs: How many pairs reach the threshold.
        pairs: The nearest of them, nearest first.
    """

    measure: Measure
    training: int
    splits: tuple[Touched, ...]
    near_pairs: int
    pairs: tuple[Pair, ...]

    @property
    def share(self) -> float:
        """Of all evaluation problems, those that are touched."""
        return sum(one.any for one in self.splits) / sum(one.problems for one in self.splits)

    def as_row(self) -> Row:
        """All of it, as JSON."""
        return {
            "measure": to_row(self.measure),
            "training_problems": self.training,
            "evaluation": [to_row(one) for one in self.splits],
            "share": self.share,
            "near_pairs": self.near_pairs,
            "pairs": [pair.as_row() for pair in self.pairs],
        }


def words(text: str) -> list[str]:
    """A text as the words that are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalised(problem: Problem) -> str:
    """A problem's question in one spelling: problems with an equal one ask the same."""
    return " ".join(words(problems.question(problem)))


def grams(text: Sequence[str], size: int) -> frozenset[Gram]:
    """All runs of so many of a text's words; of a shorter text the whole of it."""
    runs = max(1, len(text) - size + 1)
    return frozenset(tuple(text[start : start + size]) for start in range(runs))


def similarity(one: str, other: str, measure: Measure) -> float:
    """The Jaccard index of two texts' shingles: 1 for the same words, 0 if they share none."""
    first, second = (grams(_alike(words(text), measure), measure.shingle) for text in (one, other))
    return len(first & second) / len(first | second)


def compare(
    training: Sequence[Problem],
    evaluation: Sequence[Problem],
    measure: Measure = Measure(),
    most: int = 100,
) -> Findings:
    """Every evaluation problem against every training problem.

    Args:
        training: Problems that are trained on.
        evaluation: Problems of any tasks and splits.
        measure: What counts as a resemblance.
        most: So many pairs are kept; all are counted.

    Raises:
        ConfigError: a problem's task is unknown.
        DataError: there is no evaluation problem.
    """
    if not evaluation:
        raise DataError("there is no evaluation problem to compare with")
    texts = _texts([*training, *evaluation], measure)
    known, asked = texts[: len(training)], texts[len(training) :]
    near: set[int] = set()
    count = 0
    kept: list[tuple[float, int, int]] = []
    for index, other, value in _near_pairs(known, asked, measure):
        near.add(other)
        count += 1
        heapq.heappush(kept, (value, -index, -other))
        if len(kept) > most:
            heapq.heappop(kept)
    pairs = [
        Pair(training[-index], evaluation[-other], value)
        for value, index, other in sorted(kept, reverse=True)
    ]
    by_run = _sharing_a_run(known, asked, measure)
    questions = {normalised(problem) for problem in training}
    same = {place for place, one in enumerate(evaluation) if normalised(one) in questions}
    splits = tuple(_touched(evaluation, same, near, by_run))
    return Findings(measure, len(training), splits, count, tuple(pairs))


def report(findings: Findings) -> str:
    """The counts and the nearest pairs for people."""
    lines = [table(findings), f"{findings.near_pairs} near pairs"]
    for pair in findings.pairs[:SHOWN_PAIRS]:
        one, other = pair.training, pair.evaluation
        names = f"{one.task}, {one.split} {one.id}  {other.task}, {other.split} {other.id}"
        lines.append(f"  {pair.similarity:.3f}  {names}")
    hidden = findings.near_pairs - len(findings.pairs[:SHOWN_PAIRS])
    if hidden:
        lines.append(f"  and {hidden} more; --json lists as many as --pairs says")
    return "\n".join(lines)


def table(findings: Findings) -> str:
    """The counts for people, one line for each evaluation split."""
    measure = findings.measure
    run, near = f"run of {measure.ngram}", f"Jaccard {measure.threshold:g}"
    lines = [f"{'evaluation':<28}{'problems':>9}{'identical':>11}{near:>14}{run:>12}{'touched':>9}"]
    for one in findings.splits:
        name = f"{one.task}, {one.split}"
        counts = f"{one.problems:>9}{one.identical:>11}{one.near:>14}{one.ngram:>12}{one.any:>9}"
        lines.append(f"{name:<28}{counts}{one.any / one.problems:>9.1%}")
    return "\n".join(lines)


def _alike(text: Sequence[str], measure: Measure) -> list[str]:
    if not measure.ignore_numbers:
        return list(text)
    return [ANY_NUMBER if _NUMBER.fullmatch(word) else word for word in text]


def _texts(found: Sequence[Problem], measure: Measure) -> list[list[str]]:
    """The words of each question, without those that all of its task begin or end with."""
    texts = [words(problems.question(problem)) for problem in found]
    by_task: defaultdict[str, list[list[str]]] = defaultdict(list)
    for problem, text in zip(found, texts, strict=True):
        by_task[problem.task].append(text)
    around = {task: _instruction(of_task) for task, of_task in by_task.items()}
    bare = []
    for problem, text in zip(found, texts, strict=True):
        before, after = around[problem.task]
        bare.append(_alike(text[before : len(text) - after], measure))
    return bare


def _instruction(texts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many words all texts share at their start and at their end."""
    if len(texts) < ENOUGH_TO_SEE_AN_INSTRUCTION:
        return 0, 0
    return _in_common(texts), _in_common([text[::-1] for text in texts])


def _in_common(texts: Sequence[Sequence[str]]) -> int:
    columns = zip(*texts, strict=False)  # as far as the shortest goes
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns)))


def _near_pairs(
    training: Sequence[Sequence[str]], evaluation: Sequence[Sequence[str]], measure: Measure
) -> Iterator[tuple[int, int, float]]:
    """Places of both and similarity, of all pairs at or above the threshold that share a shingle."""
    sets = [grams(text, measure.shingle) for text in evaluation]
    holders: defaultdict[Gram, list[int]] = defaultdict(list)
    for place, shingles in enumerate(sets):
        for shingle in shingles:
            holders[shingle].append(place)
    for index, text in enumerate(training):
        shingles = grams(text, measure.shingle)
        common = Counter(place for one in shingles for place in holders.get(one, ()))
        for place, shared in common.items():
            value = shared / (len(shingles) + len(sets[place]) - shared)
            if value >= measure.threshold:
                yield index, place, value


def _sharing_a_run(
    training: Sequence[Sequence[str]], evaluation: Sequence[Sequence[str]], measure: Measure
) -> set[int]:
    """Places of the evaluation problems that have a run of words in common with training."""
    runs = {run for text in training for run in grams(text, measure.ngram)}
    return {
        place
        for place, text in enumerate(evaluation)
        if not runs.isdisjoint(grams(text, measure.ngram))
    }


def _touched(
    evaluation: Sequence[Problem], same: set[int], near: set[int], by_run: set[int]
) -> Iterator[Touched]:
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for place, problem in enumerate(evaluation):
        places[problem.task, problem.split].add(place)
    for (task, split), own in places.items():
        counts = [len(own & found) for found in (same, near, by_run, same | near | by_run)]
        yield Touched(task, split, len(own), *counts)


def _name(problem: Problem) -> Row:
    row = asdict(problem)
    return cast(Row, {name: row[name] for name in ("task", "split", "id")})
