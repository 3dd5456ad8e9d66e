"""Critiques kept by what they are of, so that none is paid for twice: by rollout, run or process.

In: a critic and a folder. Out: the same critic, which is asked only for what the folder does not
hold. The file is the critic's identity, `<folder>/<name>-<hash>.jsonl`; a row holds `key`, the hash of
the problem and what the rollout says, `run` and `rollout_id`, who bought it, and the `critique`. Each
is written the moment it is there, in one write to the file's end: a kill loses none of them, and
several processes may write at once. A line that is cut short or not to be read is passed over, and
its critique asked for again. Nothing is ever changed or removed; a folder can be deleted at any time.

A critique is `stored` unless it was bought for this very rollout of this very run. So the ledger of a
run that was killed and continued is that of the undisturbed one: what the killed process bought, the
run has paid.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from sdbench.critics.base import Critic, by_content, read_critique
from sdbench.records import Attempt, Critique
from sdbench.rundir import Row, RowWriter, to_row


class Stored:
    """A critic with a store; see the module.

    Args:
        inner: The critic; it must have an identity.
        folder: Where the store lies; made when there is something to keep.
        run: Who buys: a name that is the same when a run continues, and no other run's.
    """

    def __init__(self, inner: Critic, folder: Path, run: str = "") -> None:
        self._inner, self._run = inner, run
        self._path = folder / f"{inner.identity}.jsonl"
        self._read = 0
        self._kept: dict[str, Critique] = {}
        self._own: dict[tuple[str, str], Critique] = {}

    @property
    def identity(self) -> str | None:
        """The critic's own."""
        return self._inner.identity

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        """Judges attempts; those that say the same are asked about once."""
        self._refresh()
        alike = by_content(attempts)
        missing = {
            group[0].rollout.id: key for key, group in alike.items() if key not in self._kept
        }
        for key, group in alike.items():
            if key in self._kept:
                yield from self._known(key, group)
        if missing:
            asked = [alike[key][0] for key in missing.values()]
            _end_line(self._path)
            with RowWriter(self._path) as writer:
                for one in self._inner.critique(asked):
                    key = missing[one.rollout_id]
                    self._keep(key, one, writer)
                    yield from self._known(key, alike[key])

    def close(self) -> None:
        """Closes the critic."""
        self._inner.close()

    def _known(self, key: str, alike: Sequence[Attempt]) -> Iterator[Critique]:
        for attempt in alike:
            name = attempt.rollout.id
            own = self._own.get((key, name))
            yield replace(own or self._kept[key], rollout_id=name, stored=own is None)

    def _keep(self, key: str, one: Critique, writer: RowWriter) -> None:
        row = {"key": key, "run": self._run, "rollout_id": one.rollout_id, "critique": to_row(one)}
        writer.write(row)
        self._learn(cast(Row, row))

    def _refresh(self) -> None:
        """Learns what has been written since, by whomever; not a last line without its end."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for line in whole.split(b"\n"):
            row = _row(line)
            if row is not None:
                self._learn(row)

    def _learn(self, row: Row) -> None:
        """Takes a row in; of several for one key the first holds, but for its own buyer its own."""
        critique = read_critique(cast(Row, row["critique"]))
        key = str(row["key"])
        self._kept.setdefault(key, critique)
        if row["run"] == self._run:
            self._own.setdefault((key, str(row["rollout_id"])), critique)


def _end_line(path: Path) -> None:
    """Ends a line that a kill cut short, so that the next row has one of its own."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("a+b") as file:  # Whatever it reads, it writes at the end.
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.write(b"\n")


def _row(line: bytes) -> Row | None:
    """A row of the store; None for a line that is none, such as one that was cut short."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "critique" in row else None
