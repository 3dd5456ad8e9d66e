"""What the terminal shows while a run trains, and that nothing is shown where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from rich.progress import Progress
from training_fixture import OVERRIDES

from sdbench import dashboard
from sdbench.config import Suite
from sdbench.rundir import Row, RunDir, read_rows
from sdbench.train import health
from sdbench.train.health import Limit

RunCommand = Callable[..., int]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 40, "▁▂▃▄▅▆▇█"),
        ([7, 0], 40, "█▁"),
        ([2, 2, 2], 40, "▁▁▁"),
        ([-3.5], 40, "▁"),
        ([0, 2, 4, 6, 7, 7], 3, "▁▆█"),  # means 1, 5, 7: (5 - 1) / 6 of 7 steps is 4.67
        ([0, 0, 6, 6, 6], 2, "▁█"),  # 5 values in bins of 2 and 3
    ],
)
def test_a_sparkline_by_hand(values: list[float], width: int, line: str) -> None:
    assert dashboard.sparkline(values, width) == line


def log(update: int, **changes: object) -> Row:
    row: dict[str, object] = {
        "update": update,
        "rollout/reward": 0.25 * update,
        "train/loss": 1 / update,
        "rollout/flat_groups": 0.5,
        "time/seconds": 4.0,
        "time/rollout": 2.0,
        "time/critic": 0.4,
        "time/teacher": 0.6,
        "time/update": 1.0,
        "speed/tokens_per_second": 1234.4,
        "memory/peak_gib": 0.756,
        "warnings": [],
    }
    return cast(Row, row | changes)


def test_the_time_of_an_update_in_one_line() -> None:
    assert dashboard.timing(log(1)) == (
        "4.00 s an update: rollout 50%, critic 10%, teacher 15%, update 25%"
        "  1234 tokens/s  peak 0.76 GiB"
    )


def shown(renderable: object) -> list[str]:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text().splitlines()


def test_the_panel_has_the_newest_and_the_first_value_of_each_metric() -> None:
    """A metric that the run does not have has no line; one that came later begins there."""
    history = [log(1), log(2), log(3, **{"rollout/length": 40.0})]
    lines = shown(dashboard.panel(Progress(), history))
    cells = [line.split() for line in lines]
    assert ["reward", "0.75", "0.25", "▁▅█"] in cells or ["reward", "0.75", "0.25", "▁▄█"] in cells
    assert ["loss", "0.3333", "1", "█▃▁"] in cells
    assert ["length,", "tokens", "40", "40", "▁"] in cells
    assert ["flat", "groups", "0.5", "0.5", "▁▁▁"] in cells
    assert not any("entropy" in line for line in lines)
    assert any("4.00 s an update" in line for line in lines)


def test_nothing_is_shown_without_a_terminal(
    tiny: Suite, capfd: pytest.CaptureFixture[str]
) -> None:
    with dashboard.dashboard(tiny, "critique", 0) as updated:
        updated(0, {})
        for update in (1, 2):
            updated(update, log(update))
    assert capfd.readouterr() == ("", "")


def test_warnings_are_lines_on_stderr(tiny: Suite, capfd: pytest.CaptureFixture[str]) -> None:
    """Whole, however long, and with brackets as they are."""
    long = "[x] " + "very " * 40 + "long"
    with dashboard.dashboard(tiny, "critique", 0) as updated:
        updated(7, log(7, warnings=["it repeats", long]))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["warning: update 7: it repeats", f"warning: update 7: {long}"]


def test_a_terminal_has_the_panel_and_the_warnings(
    tiny: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(width=100, file=io.StringIO(), force_terminal=True, record=True)
    monkeypatch.setattr(dashboard, "new_progress", lambda: Progress(console=terminal))
    with dashboard.dashboard(tiny, "critique", 5) as updated:
        updated(0, {})
        updated(1, log(1, warnings=["it repeats"]))
    text = terminal.export_text()
    assert "warning: update 1: it repeats" in text
    assert "tiny critique seed 5" in text
    assert "reward" in text and "an update: rollout 50%" in text


def test_the_command_line_warns_once(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a limit that is always passed, from the second update on; the log has the warning too."""
    monkeypatch.setattr(health, "WINDOW", 1)
    always = Limit("rollout/length", "mean length", factor=0.1, rise=-99.0)
    monkeypatch.setattr(health, "LIMITS", (always,))
    settings = [argument for one in OVERRIDES for argument in ("--set", one)]
    assert run("train", "--condition", "critique", *settings, "--out", "run") == 0
    out, err = capfd.readouterr()
    assert err.startswith("warning: update 2: mean length went from ")
    assert len(err.splitlines()) == 1
    rows = list(read_rows(RunDir(Path("run")).train_log))
    assert [len(row["warnings"]) for row in rows] == [0, 1, 0]  # type: ignore[arg-type]
    assert "next: sdbench eval" in out
