"""An evaluation that is killed over and over: no sample lost, none twice, the same files at the end."""

from __future__ import annotations

import os
import random
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from processes_fixture import quick_processes

from sdbench.rundir import read_json, read_rows

KILLS = 20


def evaluate(folder: str) -> None:
    """What the command line does, in a process of its own."""
    import torch

    from sdbench.cli import main

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (ends with the process)
    sys.argv = [
        *("sdbench", "eval", "organism", "--k", "12", "--limit", "60"),
        *("--engine-option", "batch_rows=24", "--out", folder),
    ]
    main()


def start(folder: Path) -> BaseProcess:
    process = quick_processes().Process(target=evaluate, args=(str(folder),))
    process.start()
    return process


def finished(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def samples(folder: Path) -> Path | None:
    return next(folder.rglob("samples.jsonl"), None)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(
    tmp_path: Path,
) -> None:
    """Each kill comes at a random moment after sampling began, or amid what comes before it."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finished(start(whole)) == 0
    expected = samples(whole)
    assert expected is not None

    rng = random.Random(0)
    kept: dict[str, bytes] = {}
    amid = 0
    for _ in range(KILLS):
        process, size = start(killed), _size(killed)
        # Half of the kills wait until something new is on disk, half strike at any moment.
        wait_for_news = rng.random() < 0.5
        deadline = time.monotonic() + (60 if wait_for_news else rng.uniform(0.1, 3))
        while time.monotonic() < deadline and process.is_alive():
            if wait_for_news and _size(killed) > size:
                time.sleep(rng.uniform(0, 0.3))
                break
            time.sleep(0.01)
        process.kill()
        process.join()
        path = samples(killed)
        if path is not None:
            lines = [line for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")]
            now = {line.split(b'"', 4)[3].decode(): line for line in lines}
            assert len(now) == len(lines), "a sample stands twice"
            assert kept.items() <= now.items(), "a sample was lost or has changed"
            kept = now
            amid += 0 < len(now) < 60 * 12
    assert amid, "no kill struck amid sampling"

    assert finished(start(killed)) == 0
    found = samples(killed)
    assert found is not None
    assert found.read_bytes() == expected.read_bytes()
    assert len(list(read_rows(found))) == 60 * 12
    for name in ("verdicts.jsonl", "results.json"):
        one, other = (next(folder.rglob(name)) for folder in (whole, killed))
        assert one.read_bytes() == other.read_bytes()
    assert read_json(next(killed.rglob("results.json")))["k"] == 12


def _size(folder: Path) -> int:
    path = samples(folder)
    return 0 if path is None else path.stat().st_size
