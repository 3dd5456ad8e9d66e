"""Scores stored samples again, without sampling, and tells what changed.

In: folders with `samples.jsonl` and earlier scorings. Out: verdicts and results written anew, and
every verdict that differs from the earlier one, so that two verifiers can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sdbench import problems
from sdbench.errors import DataError
from sdbench.evaluate.evaluation import score_and_write
from sdbench.evaluate.sample import sample_id, stored
from sdbench.evaluate.score import metric_of
from sdbench.grading import Grader
from sdbench.rundir import Row, read_json, read_rows


@dataclass(frozen=True, slots=True)
class Change:
    """A sample on which the verdicts differ.

    Attributes:
        id: Of the sample.
        before: The earlier status.
        after: The new one.
        answer: The answer that was graded, as the new verdict has it.
        gold: The right answer.
    """

    id: str
    before: str
    after: str
    answer: str | None
    gold: str


@dataclass(frozen=True, slots=True)
class Regraded:
    """One scoring made again.

    Attributes:
        folder: Where it lies.
        samples: How many were graded.
        before: Avg@k of the earlier verdicts.
        after: Avg@k of the new ones.
        verifiers_before: What decided then.
        verifiers_after: What decided now.
        changes: Every verdict that differs.
    """

    folder: Path
    samples: int
    before: float
    after: float
    verifiers_before: tuple[str, ...]
    verifiers_after: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Changes by kind, such as `incorrect to correct`."""
        return dict(Counter(f"{one.before} to {one.after}" for one in self.changes))


def scorings(root: Path) -> list[Path]:
    """Folders of all scorings of stored samples below a folder.

    Raises:
        DataError: there is none.
    """
    found = sorted(p.parent for p in root.rglob("results.json") if _samples_of(p.parent).is_file())
    if not found:
        raise DataError(
            f"{root} holds no evaluation: no samples.jsonl with results below it",
            hint="run `sdbench eval` on it first",
        )
    return found


def regrade(folder: Path, grader: Grader) -> Regraded:
    """Grades and scores the samples of one scoring again.

    Args:
        folder: One that `scorings` found.
        grader: An open grader.

    Raises:
        DataError: samples are missing, or the task's problems are no longer the same.
    """
    about = read_json(folder / "results.json")
    before = {str(row["id"]): str(row["status"]) for row in read_rows(folder / "verdicts.jsonl")}
    k, count = cast(int, about["k"]), cast(int, about["problems"])
    split_path = cast("str | None", about.get("split_file"))
    problem_set = problems.select(str(about["task"]), str(about["split"]), count, split_path)
    if problems.fingerprint(problem_set) != about["problems_sha256"]:
        raise DataError(
            f"{folder}: the problems of task {about['task']} are not those that were sampled",
            hint="use the version of sdbench that sampled them, or sample anew",
        )
    held = stored(folder.parent)
    wanted = [sample_id(problem.id, index) for problem in problem_set for index in range(k)]
    missing = next((one for one in wanted if one not in held), None)
    if missing is not None:
        raise DataError(f"{folder.parent / 'samples.jsonl'} lacks the sample {missing}")
    samples = [held[one] for one in wanted]
    results = score_and_write(folder, _without_scores(about), problem_set, samples, grader)
    gold = {problem.id: problem.answer for problem in problem_set}
    problem_of = {one.id: one.problem_id for one in samples}
    return Regraded(
        folder=folder,
        samples=len(samples),
        before=metric_of(about, f"avg@{k}").value,
        after=metric_of(results, f"avg@{k}").value,
        verifiers_before=_verifiers(about),
        verifiers_after=_verifiers(results),
        changes=tuple(_changes(folder, before, gold, problem_of)),
    )


def _changes(
    folder: Path, before: dict[str, str], gold: dict[str, str], problem_of: dict[str, str]
) -> Iterator[Change]:
    for row in read_rows(folder / "verdicts.jsonl"):
        one, after = str(row["id"]), str(row["status"])
        if before.get(one, after) != after:
            answer = cast("str | None", row["answer"])
            yield Change(one, before[one], after, answer, gold[problem_of[one]])


def _without_scores(results: Row) -> Row:
    scores = ("metrics", "curves", "per_problem", "verifiers")
    return {name: value for name, value in results.items() if name not in scores}


def _verifiers(results: Row) -> tuple[str, ...]:
    return tuple(map(str, cast("list[str]", results["verifiers"])))


def _samples_of(folder: Path) -> Path:
    return folder.parent / "samples.jsonl"
