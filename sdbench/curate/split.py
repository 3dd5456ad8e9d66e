"""Training, validation and test problems, dealt out by hash and frozen in a file.

In: a task's own splits or what a filter kept, and how many problems each new split takes. Out: a split
file, which a suite names as `[data] split`.

A problem's place is a hash of the seed and of its question in one spelling, so neither its id, nor its
number, nor any other problem has a say in it. Test takes the first places, then validation, then
training; what is left over is dropped. So n problems that come move at most n out of a split, always
towards training and never back; n that go, the other way round; and a larger training set leaves
validation and test as they are.

Two splits never share a question, nor an id within one task; nor do they share one with the evaluation
splits of the tasks that they are held `against`. Such an overlap is refused, or left out on request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdbench import problems, provenance, split_file
from sdbench.curate import kept
from sdbench.curate.duplicates import Findings, compare, normalised, table
from sdbench.errors import ConfigError, DataError
from sdbench.records import Problem
from sdbench.rundir import Row, write_json
from sdbench.split_file import SplitFile

EVALUATION = ("validation", "test")
DEALT_FIRST = ("test", "validation", "train")

Splits = Mapping[str, Sequence[Problem]]
Key = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pool:
    """The problems that are dealt out.

    Attributes:
        task: Their task.
        splits: The task's own splits that they come from.
        problems: The problems.
        source: Where they come from, as the file says it.
    """

    task: str
    splits: tuple[str, ...]
    problems: tuple[Problem, ...]
    source: Row


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem that asks what another one asks, or has its id.

    Attributes:
        problem: The problem.
        other: The one that was there before.
    """

    problem: Problem
    other: Problem

    def __str__(self) -> str:
        other = self.other
        return f"{self.problem.id} is {other.id} of {other.task}, {other.split}"


@dataclass(frozen=True, slots=True)
class Dealt:
    """New splits, with what was found about them.

    Attributes:
        pool: What was dealt out.
        splits: The problems of `train`, `validation` and `test`.
        seed: Of the order.
        against: The tasks whose evaluation splits were looked at.
        left_out: Problems that were left out because they overlap.
        near: What of the new validation and test resembles the new training split.
        near_against: What of the other tasks' evaluation splits does, None without any.
    """

    pool: Pool
    splits: Splits
    seed: int
    against: tuple[str, ...]
    left_out: tuple[Overlap, ...]
    near: Findings
    near_against: Findings | None

    def as_row(self) -> Row:
        """The figures, without the problems."""
        against = self.near_against
        return {
            "task": self.pool.task,
            "sizes": {split: len(found) for split, found in self.splits.items()},
            "seed": self.seed,
            "source": self.pool.source,
            "against": list(self.against),
            "left_out": [{"id": one.problem.id, "because": str(one)} for one in self.left_out],
            "near_duplicates": self.near.as_row(),
            "near_duplicates_against": None if against is None else against.as_row(),
        }


def pool_of(source: str, splits: Sequence[str] = ()) -> Pool:
    """The problems of a task, or those that a filter kept.

    Args:
        source: Name of a task, or a folder of `sdbench data filter`.
        splits: The task's own splits, `train` if none is named; a filter's folder has its own.

    Raises:
        ConfigError: no such task or split, or splits are named with a folder.
        DataError: the folder holds no filter's result, or the task has changed since.
    """
    if Path(source).is_dir():
        held = kept.read(Path(source))
        if splits:
            raise ConfigError(f"--from {','.join(splits)}: {source} was filtered from {held.split}")
        return Pool(held.task, (held.split,), held.problems, held.source)
    names = tuple(dict.fromkeys(splits or ("train",)))
    found = [problem for split in names for problem in problems.load(source, split)]
    row: Row = {"task": source, "splits": list(names), "problems": len(found)}
    return Pool(source, names, tuple(found), row)


def evaluation_splits(tasks: Sequence[str], besides: Sequence[Pool] = ()) -> list[Problem]:
    """The validation and test problems of some tasks.

    Args:
        tasks: Names.
        besides: Pools whose own splits are left out.

    Raises:
        ConfigError: no such task.
        DataError: the data cannot be had.
    """
    taken = {(pool.task, split) for pool in besides for split in pool.splits}
    return [
        problem
        for task in dict.fromkeys(tasks)
        for split in problems.splits(task)
        if split in EVALUATION and (task, split) not in taken
        for problem in problems.load(task, split)
    ]


def deal(
    pool: Pool,
    sizes: Mapping[str, int],
    seed: int = 0,
    against: Sequence[str] = (),
    *,
    drop_overlap: bool = False,
) -> Dealt:
    """Deals a pool out.

    Args:
        pool: The problems.
        sizes: How many `train`, `validation` and `test` take.
        seed: Of the order.
        against: Tasks whose evaluation splits must not be overlapped.
        drop_overlap: Leaves out what overlaps instead of refusing it.

    Raises:
        ConfigError: a size is out of range, or no such task.
        DataError: there are too few problems, or some overlap.
    """
    others = evaluation_splits(against, [pool])
    taken = in_order(pool.problems, seed)
    left_out = overlaps(taken, others)
    if left_out and not drop_overlap:
        raise DataError(
            f"{len(left_out)} of {len(taken)} problems of {pool.task} overlap: {left_out[0]}",
            hint="--drop-overlap leaves them out",
        )
    dropped = {one.problem for one in left_out}
    splits = first_places([problem for problem in taken if problem not in dropped], sizes)
    near = compare(splits["train"], [p for name in EVALUATION for p in splits[name]])
    near_against = compare(splits["train"], others) if others else None
    return Dealt(pool, splits, seed, tuple(against), tuple(left_out), near, near_against)


def in_order(found: Sequence[Problem], seed: int) -> list[Problem]:
    """Problems by the hash of the seed and their question; those with one question by id."""
    return sorted(found, key=lambda problem: (_place(problem, seed), problem.id))


def first_places(ordered: Sequence[Problem], sizes: Mapping[str, int]) -> dict[str, list[Problem]]:
    """Takes test, then validation, then training from the front.

    Raises:
        ConfigError: a size is below 0, or training or test is empty.
        DataError: there are too few problems.
    """
    for split in problems.SPLITS:
        least = 0 if split == "validation" else 1
        if sizes[split] < least:
            raise ConfigError(f"--{split} {sizes[split]}: allowed are whole numbers from {least}")
    if len(ordered) < sum(sizes.values()):
        raise DataError(f"found {len(ordered)} problems, the splits take {sum(sizes.values())}")
    dealt: dict[str, list[Problem]] = {}
    start = 0
    for split in DEALT_FIRST:
        chosen = ordered[start : start + sizes[split]]
        dealt[split] = [replace(problem, split=split) for problem in chosen]
        start += sizes[split]
    return {split: dealt[split] for split in problems.SPLITS}


def overlaps(found: Sequence[Problem], others: Sequence[Problem]) -> list[Overlap]:
    """Those that ask what one of the others, or one earlier among them, asks, or have its id."""
    held: dict[Key, Problem] = {}
    for other in others:
        _hold(held, other)
    overlapping = []
    for problem in found:
        known = next((held[key] for key in _keys(problem) if key in held), None)
        if known is not None:
            overlapping.append(Overlap(problem, known))
        _hold(held, problem)
    return overlapping


def write(dealt: Dealt, path: Path) -> SplitFile:
    """Writes the split file, with where it comes from.

    Args:
        dealt: The new splits.
        path: An absent file, or one that freezes these very problems, which stays as it is.

    Raises:
        ConfigError: the file freezes other problems.
        DataError: there is another file.
    """
    marks = {
        split: {problem.id: _mark(problem) for problem in found}
        for split, found in dealt.splits.items()
    }
    file = SplitFile(str(path), dealt.pool.task, dealt.pool.splits, marks)
    if not path.exists():
        write_json(path, {**file.as_row(), **dealt.as_row(), **provenance.describe()})
    elif split_file.read(path).sha256 != file.sha256:
        raise ConfigError(
            f"{path} freezes other problems, and a split file is never overwritten",
            hint="give another --out",
        )
    return file


def summary(dealt: Dealt, path: Path) -> str:
    """What was done, for people."""
    sizes = ", ".join(f"{len(found)} {split}" for split, found in dealt.splits.items())
    left = len(dealt.pool.problems) - len(dealt.left_out) - sum(map(len, dealt.splits.values()))
    lines = [
        f"{dealt.pool.task}: {sizes}; {len(dealt.left_out)} overlap and {left} are left over",
        "what of the new validation and test resembles the new training split:",
        table(dealt.near),
    ]
    if dealt.near_against is not None:
        lines += ["what of the other tasks does:", table(dealt.near_against)]
    return "\n".join([*lines, f'{path}: name it in a suite as [data] split = "{path}"'])


def _place(problem: Problem, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{normalised(problem)}".encode()).hexdigest()


def _keys(problem: Problem) -> tuple[Key, Key]:
    """Ids tell problems apart within a task; two tasks may both have a problem 1."""
    return normalised(problem), (problem.task, problem.id)


def _hold(held: dict[Key, Problem], problem: Problem) -> None:
    for key in _keys(problem):
        held.setdefault(key, problem)


def _mark(problem: Problem) -> str:
    """The fingerprint of a problem alone; its split has no part in it."""
    return problems.fingerprint([problem])
