"""Results as tables on stdout, for people; with `--json` the command line prints data instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdbench.records import Metric

if TYPE_CHECKING:
    from sdbench.report.schema import Comparison, Score

COLUMNS = ("avg", "pass", "maj", "all_steps_right")
TITLES = {"avg": "Avg", "pass": "Pass", "maj": "Maj", "all_steps_right": "All steps right"}


def print_leaderboard(comparison: Comparison) -> None:
    """The leaderboard of a comparison, with the headline above and 95 % intervals in it."""
    from rich.console import Console
    from rich.table import Table

    k = comparison["k"]
    table = Table(
        title=comparison["title"], caption="% on test, selected on validation, 95 % by problem"
    )
    table.add_column("condition", no_wrap=True)
    table.add_column("seeds", justify="right")
    shown = [
        c for c in COLUMNS if all(f"{c}@{k}" in r["selected"] for r in comparison["leaderboard"])
    ]
    for column in shown:
        table.add_column(f"{TITLES[column]}@{k}", justify="right", no_wrap=True)
    for row in comparison["leaderboard"]:
        scores = [_percent(row["selected"][f"{column}@{k}"]) for column in shown]
        table.add_row(row["condition"], str(len(row["seeds"])), *scores)
    Console().print(table)


def metric_lines(metrics: Mapping[str, Metric]) -> list[str]:
    """One line for each metric: name, value, interval."""
    lines = []
    for name, metric in metrics.items():
        scale, unit = (1.0, " tokens") if name == "length" else (100.0, " %")
        span = ""
        if metric.low is not None and metric.high is not None:
            span = f"  [{metric.low * scale:.1f}, {metric.high * scale:.1f}]"
        lines.append(f"  {name:<20}{metric.value * scale:6.1f}{unit}{span}")
    return lines


def _percent(score: Score) -> str:
    value = f"{score['value'] * 100:.1f}"
    if score["low"] is None or score["high"] is None:
        return value
    return f"{value} [{score['low'] * 100:.1f}, {score['high'] * 100:.1f}]"
