"""The run folder: where each stage's files lie, and how they are written so that a kill loses nothing.

Whole files are written aside, synced and renamed. JSONL files grow by whole lines; a line that a
kill cut short is dropped when the file is next opened. Stages meet here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from sdbench.errors import CheckpointError, DataError

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
Row = dict[str, JsonValue]

SYNC_SECONDS = 1.0


class RunDir:
    """Paths within `runs/<suite>/<condition>/seed<k>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def manifest(self) -> Path:
        """Suite as resolved, provenance and compute ledger."""
        return self.root / "manifest.json"

    @property
    def rollouts(self) -> Path:
        """One row for each training rollout with its verdict."""
        return self.root / "rollouts.jsonl"

    @property
    def feedback(self) -> Path:
        """One row for each rollout: advantage, context, critique case."""
        return self.root / "feedback.jsonl"

    @property
    def critiques(self) -> Path:
        """One row for each critique that was audited, with what the audit found."""
        return self.root / "critiques.jsonl"

    @property
    def audit(self) -> Path:
        """Shares over these critiques, with intervals."""
        return self.root / "audit.json"

    @property
    def train_log(self) -> Path:
        """One row for each update, numbers named `area/name`."""
        return self.root / "train.jsonl"

    @property
    def selection(self) -> Path:
        """Which checkpoint validation selected, with the scores that led to it."""
        return self.root / "selection.json"

    @property
    def advantages(self) -> Path:
        """Per-token advantages on the common traces, for conditions with a teacher."""
        return self.root / "analysis" / "advantage.json"

    @property
    def checkpoints(self) -> Path:
        """One folder for each saved update."""
        return self.root / "checkpoints"

    def checkpoint(self, update: int) -> Path:
        """Folder of the checkpoint after this many updates."""
        return self.checkpoints / f"{update:06d}"

    def saved_checkpoints(self) -> list[Path]:
        """Folders of complete checkpoints, oldest first."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(p for p in self.checkpoints.iterdir() if p.is_dir() and p.name.isdigit())

    def evaluation(self, checkpoint: str, task: str, split: str, settings: str) -> Path:
        """Folder of one evaluation: samples.jsonl, verdicts.jsonl, results.json."""
        return self.root / "eval" / checkpoint / f"{task}-{split}" / settings

    def read_manifest(self) -> Row:
        """The manifest.

        Raises:
            DataError: this is no run folder.
        """
        if not self.manifest.is_file():
            raise DataError(
                f"{self.root} is not a run folder: it has no manifest.json",
                hint="give a folder that `sdbench train` wrote, such as runs/tiny/critique/seed0",
            )
        return read_json(self.manifest)


def critique_store(out: Path) -> Path:
    """Where critiques that cost something are kept for all runs below a folder."""
    return out / "critiques"


def critique_store_of(run: Path, otherwise: Path) -> Path:
    """Where the critiques of a run are kept.

    Args:
        run: The run's folder.
        otherwise: Whose store it is if there is none at OUT/critiques, the run being
            OUT/SUITE/CONDITION/seedN, which is where `sdbench bench --out OUT` keeps both.
    """
    above = run.resolve().parents[2:3]
    found = [store for folder in above if (store := critique_store(folder)).is_dir()]
    return found[0] if found else critique_store(otherwise)


def to_row(record: object) -> Row:
    """A frozen record as a JSON object."""
    return cast(Row, dataclasses.asdict(record))  # type: ignore[call-overload]


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Writes a JSON file so that a reader sees the old or the new one, never half of one."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically: aside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_json(path: Path) -> Row:
    """Reads a JSON object.

    Raises:
        DataError: the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def append_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Appends rows to a JSONL file in one write and syncs it."""
    text = _lines(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class RowWriter:
    """Appends rows to a JSONL file as they come, each with the system at once.

    So a kill of the process loses none; the disk has them at the latest a second later and at the
    end of the `with` block, also when it is left by an exception. A row is one write to the file's
    end, so two processes may append to one file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._synced = time.monotonic()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def write(self, row: Mapping[str, object]) -> None:
        """Appends one row."""
        left = _lines([row]).encode()
        while left:  # A full disk takes a part of it and refuses the rest with an error.
            left = left[self._file.write(left) :]
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file of ours; a last line that a kill cut short is left out.

    Raises:
        DataError: a line other than the last is not a JSON object.
    """
    if path.exists():
        with path.open("rb") as file:
            yield from parse_rows(file, str(path), may_be_cut=True)


def parse_rows(lines: Iterable[bytes], place: str, *, may_be_cut: bool = False) -> Iterator[Row]:
    """Rows of JSON Lines from anywhere.

    Args:
        lines: With their line ends.
        place: Where they come from, for messages.
        may_be_cut: Whether a last line without an end that is no JSON is left out.

    Raises:
        DataError: a line is not a JSON object; names the line.
    """
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if may_be_cut and not line.endswith(b"\n"):
                return
            raise DataError(f"{place}, line {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{place}, line {number}: found no JSON object")
        yield row


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes a whole JSONL file atomically."""
    write_text(path, _lines(rows))


def keep_rows(path: Path, keep: Callable[[Row], bool]) -> None:
    """Drops rows for which `keep` is false, and a cut-short last line, atomically."""
    if path.exists():
        write_rows(path, [row for row in read_rows(path) if keep(row)])


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Keeps a second process from doing the same; the system gives the lock back after a kill.

    Args:
        folder: Where the work is done; it is made.
        doing: Which, such as `sampling`.

    Raises:
        DataError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                f"another process is {doing} into {folder}", hint="wait for it, or end it"
            ) from None
        yield


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, then syncs it and renames it to `folder`.

    Raises:
        CheckpointError: `folder` exists already.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists already; a checkpoint is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.part")
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir()
    yield aside
    for path in aside.rglob("*"):
        if path.is_file():
            _sync(path)
    _sync(aside)
    aside.rename(folder)
    _sync(folder.parent)


def _lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
