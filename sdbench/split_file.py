"""Split files: which problems of a task are for training, validation and test, frozen by id.

In: a JSON file as `sdbench data split` writes it. Out: for each split its problems' ids, in order, each
with the fingerprint of the problem as it was. Nothing here loads a problem; `problems` does, and
checks them against the fingerprints.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sdbench.errors import DataError
from sdbench.rundir import Row, read_json

FORMAT = 1

ById = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SplitFile:
    """What a split file freezes.

    Attributes:
        path: Where it lies, for messages.
        task: The task whose problems it deals out.
        sources: The task's own splits that these come from.
        splits: For `train`, `validation` and `test` the fingerprint of each problem by its id, in the
            order in which they are taken.
    """

    path: str
    task: str
    sources: tuple[str, ...]
    splits: Mapping[str, ById]

    def as_row(self) -> Row:
        """The part of the file that is read again; the rest says where it comes from."""
        return {
            "format": FORMAT,
            "task": self.task,
            "sources": list(self.sources),
            "splits": {name: dict(by_id) for name, by_id in self.splits.items()},
        }

    @property
    def sha256(self) -> str:
        """A hash of what is frozen, wherever the file lies and however it was made."""
        return hashlib.sha256(json.dumps(self.as_row()).encode()).hexdigest()[:16]


def read(path: Path) -> SplitFile:
    """Reads a split file.

    Raises:
        DataError: it is missing, is no split file, or has an id in two splits.
    """
    row = read_json(path)
    if row.get("format") != FORMAT or not _is_whole(row):
        raise DataError(
            f"{path} is no split file of format {FORMAT}", hint="make one with `sdbench data split`"
        )
    file = SplitFile(
        path=str(path),
        task=str(row["task"]),
        sources=tuple(map(str, cast("list[str]", row["sources"]))),
        splits=cast("dict[str, ById]", row["splits"]),
    )
    seen = Counter(id for by_id in file.splits.values() for id in by_id)
    twice = next((id for id, times in seen.items() if times > 1), None)
    if twice is not None:
        raise DataError(f"{path}: problem {twice} is in two splits")
    return file


def _is_whole(row: Row) -> bool:
    """Whether everything is there that is read again, and of the right type."""
    splits = row.get("splits")
    return (
        isinstance(row.get("task"), str)
        and isinstance(row.get("sources"), list)
        and isinstance(splits, dict)
        and all(
            isinstance(by_id, dict) and all(isinstance(one, str) for one in by_id.values())
            for by_id in splits.values()
        )
    )
