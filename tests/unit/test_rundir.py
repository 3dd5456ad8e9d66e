"""Files that a kill cannot spoil: rows appended and read back, whole files and folders aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbench.errors import CheckpointError, DataError
from sdbench.rundir import (
    Row,
    RunDir,
    append_rows,
    critique_store_of,
    keep_rows,
    read_json,
    read_rows,
    write_json,
    write_text,
    written_aside,
)

ROWS: list[Row] = [{"id": 1, "text": "a\nb"}, {"id": 2, "text": "é€\u2028"}, {"id": 3, "text": ""}]


def test_the_critiques_of_a_run_are_beside_its_suite_or_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it only where they are there; a folder that is too high up has nothing above it."""
    out, runs = tmp_path / "out", Path("runs")
    run = out / "tiny" / "critique" / "seed0"
    assert critique_store_of(run, runs) == runs / "critiques"
    (out / "critiques").mkdir(parents=True)
    assert critique_store_of(run, runs) == out / "critiques"
    assert critique_store_of(out / "tiny", runs) == runs / "critiques"
    monkeypatch.chdir(out)
    assert critique_store_of(Path("tiny/critique/seed0"), runs).samefile(out / "critiques")
    assert critique_store_of(Path("/seed0"), runs) == runs / "critiques"


def test_rows_are_read_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    append_rows(path, ROWS[:1])
    append_rows(path, ROWS[1:])
    assert list(read_rows(path)) == ROWS
    assert path.read_text(encoding="utf-8").count("\n") == 3


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "none.jsonl")) == []
    keep_rows(tmp_path / "none.jsonl", lambda row: True)
    assert not (tmp_path / "none.jsonl").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200))
def test_a_file_cut_anywhere_in_ascii_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    """After a kill the rows that end before the cut are there, and appending goes on cleanly."""
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    rows: list[Row] = [{"id": number, "text": "x" * number} for number in range(6)]
    append_rows(path, rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    kept = list(read_rows(path))
    # A line that only lacks its line end is complete: nothing of the row is missing.
    assert kept in (rows[:complete], rows[: complete + 1])
    keep_rows(path, lambda row: True)
    append_rows(path, rows[len(kept) :])
    assert list(read_rows(path)) == rows
    assert path.read_bytes() == whole


def test_a_file_cut_within_a_character_keeps_its_whole_lines(tmp_path: Path) -> None:
    """Rows are written as UTF-8, not ASCII, so a kill can leave half of an é."""
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"id": 1}, {"text": "é"}])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index("é".encode()) + 1])
    assert list(read_rows(path)) == [{"id": 1}]


def test_a_broken_line_that_is_not_the_last_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": \n{"id": 3}\n')
    with pytest.raises(DataError, match=r"rows.jsonl, line 2: not valid JSON"):
        list(read_rows(path))
    path.write_text("[1]\n")
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: found no JSON object"):
        list(read_rows(path))


def test_keep_rows_drops_what_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, ROWS)
    keep_rows(path, lambda row: row["id"] != 2)
    assert list(read_rows(path)) == [ROWS[0], ROWS[2]]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_json_is_replaced_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.json"
    write_json(path, {"a": "é"})
    write_json(path, {"a": [1, None]})
    assert read_json(path) == {"a": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A lone surrogate cannot be encoded, so the write breaks off in the middle."""
    path = tmp_path / "one.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"one\.json"):
        read_json(path)
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_a_folder_written_aside_appears_whole(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(7)
    with written_aside(folder) as aside:
        (aside / "model").write_text("weights")
        assert not folder.exists()
        assert RunDir(tmp_path).saved_checkpoints() == []
    assert folder.name == "000007"
    assert (folder / "model").read_text() == "weights"
    assert RunDir(tmp_path).saved_checkpoints() == [folder]


def test_an_exception_in_the_middle_leaves_no_checkpoint(tmp_path: Path) -> None:
    """Nor do its remains get into the next attempt."""
    run = RunDir(tmp_path)
    with pytest.raises(KeyboardInterrupt), written_aside(run.checkpoint(7)) as aside:
        (aside / "model").write_text("half")
        raise KeyboardInterrupt
    assert not run.checkpoint(7).exists()
    assert run.saved_checkpoints() == []
    with written_aside(run.checkpoint(7)) as aside:
        (aside / "other").write_text("whole")
    assert [p.name for p in run.checkpoint(7).iterdir()] == ["other"]


def test_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(7)
    with written_aside(folder) as aside:
        (aside / "model").write_text("first")
    with pytest.raises(CheckpointError, match="000007 exists already"), written_aside(folder):
        pytest.fail("there is nothing to fill")
    assert (folder / "model").read_text() == "first"


def test_checkpoints_are_listed_oldest_first_and_only_they(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for name in ("000010", "000009", ".000011.part", "notes"):
        (run.checkpoints / name).mkdir(parents=True)
    (run.checkpoints / "000012").write_text("a file")
    assert [p.name for p in run.saved_checkpoints()] == ["000009", "000010"]


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a run folder.*hint: give a folder"):
        RunDir(tmp_path).read_manifest()


def test_evaluations_lie_by_checkpoint_task_split_and_settings(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).evaluation("000040", "arithmetic", "test", "abc")
    assert folder == tmp_path / "eval" / "000040" / "arithmetic-test" / "abc"
