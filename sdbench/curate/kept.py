"""The folder in which a filter leaves its result, and what others read from it.

`problems.jsonl` has a line for every problem, kept or dropped; `filter.json` says how it came to that,
and holds a hash of the lines, so that the two belong together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdbench import problems
from sdbench.errors import DataError
from sdbench.records import Problem
from sdbench.rundir import Row, read_json, read_rows, write_json, write_rows

TOLD = ("command", "task", "split", "criteria", "solver", "critic", "problems", "kept", "dropped")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a filter kept.

    Attributes:
        task: The task.
        split: The split of it that was filtered.
        problems: Those that were kept, in the order of the data.
        source: Which filter it was, for the file that is made of it.
    """

    task: str
    split: str
    problems: tuple[Problem, ...]
    source: Row


def write(folder: Path, rows: Sequence[Row], about: Row) -> Row:
    """Writes a filter's result.

    Args:
        folder: Where it goes.
        rows: One for each problem, with `id`, `fingerprint` and `kept`.
        about: What `filter.json` says besides the hash.

    Returns:
        The contents of `filter.json`.
    """
    write_rows(folder / "problems.jsonl", rows)
    whole: Row = {**about, "rows_sha256": _digest(folder)}
    write_json(folder / "filter.json", whole)
    return whole


def read(folder: Path) -> Kept:
    """The problems that a filter kept.

    Raises:
        DataError: the folder holds no filter's result, its files do not belong together, or the task's
            problems are no longer those that were filtered.
    """
    if not (folder / "filter.json").is_file():
        raise DataError(
            f"{folder} holds no filter.json", hint="give a folder that `sdbench data filter` wrote"
        )
    about = read_json(folder / "filter.json")
    if _digest(folder) != about.get("rows_sha256"):
        raise DataError(f"{folder}: problems.jsonl is not what filter.json speaks of")
    rows = [row for row in read_rows(folder / "problems.jsonl") if row["kept"]]
    task, split = str(about["task"]), str(about["split"])
    found = _unchanged(folder, task, split, {str(row["id"]): row["fingerprint"] for row in rows})
    source: Row = {"filter": str(folder), **{name: about[name] for name in TOLD}}
    return Kept(task, split, tuple(found), source)


def _unchanged(folder: Path, task: str, split: str, marks: Row) -> list[Problem]:
    held = [problem for problem in problems.load(task, split) if problem.id in marks]
    same = [problem for problem in held if problems.fingerprint([problem]) == marks[problem.id]]
    if len(same) < len(marks):
        raise DataError(
            f"{folder}: {len(marks) - len(same)} of {len(marks)} problems of task {task} are missing"
            " or have changed since",
            hint="filter them anew",
        )
    return same


def _digest(folder: Path) -> str | None:
    path = folder / "problems.jsonl"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
