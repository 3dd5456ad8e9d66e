"""What a terminal shows while one run trains: how far, what remains, and where the numbers go.

Each metric has its newest value, that of the first update, and a line of small bars over the whole
run. Where stderr is no terminal only warnings are printed, one line each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from sdbench.live import new_progress
from sdbench.rundir import Row

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress

    from sdbench.config import Suite

SHOWN: Mapping[str, str] = {
    "rollout/reward": "reward",
    "train/loss": "loss",
    "advantage/mean": "advantage, mean",
    "advantage/absolute": "advantage, absolute",
    "divergence/forward_kl": "KL(teacher || policy)",
    "divergence/reverse_kl": "KL(policy || teacher)",
    "train/entropy": "entropy",
    "train/gradient_norm": "gradient norm",
    "importance/mean": "importance ratio",
    "rollout/length": "length, tokens",
    "rollout/truncated": "truncated",
    "rollout/repetition": "repetition",
    "rollout/flat_groups": "flat groups",
}
TIMES: Mapping[str, str] = {
    "time/rollout": "rollout",
    "time/critic": "critic",
    "time/teacher": "teacher",
    "time/update": "update",
}
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


@contextmanager
def dashboard(suite: Suite, condition: str, seed: int) -> Iterator[Callable[[int, Row], None]]:
    """Shows a run; call it with each update's number and row of the log."""
    from rich.live import Live

    progress = new_progress()
    console = progress.console
    task = progress.add_task(
        f"{suite.name} {condition} seed {seed}", total=suite.train.updates, note=""
    )
    history: list[Row] = []
    shows = console.is_terminal
    with (
        Live(console=console, refresh_per_second=2, transient=False)
        if shows
        else _Nothing() as live
    ):

        def updated(update: int, log: Row) -> None:
            for warning in cast("list[str]", log.get("warnings") or []):
                console.print(f"warning: update {update}: {warning}", markup=False, soft_wrap=True)
            if log:
                history.append(log)
            progress.update(task, completed=update)
            if shows:
                live.update(panel(progress, history))

        if shows:
            live.update(progress)
        yield updated


def panel(progress: Progress, history: Sequence[Row]) -> Group:
    """The bar, the metrics and where the last update's time went."""
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, justify in (("", "left"), ("now", "right"), ("first", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for metric, label in SHOWN.items():
        values = [cast(float, row[metric]) for row in history if metric in row]
        if values:
            table.add_row(label, f"{values[-1]:.4g}", f"{values[0]:.4g}", sparkline(values, WIDTH))
    return Group(progress, table, timing(history[-1]) if history else "")


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of bars, lowest to highest value; more values than `width` are averaged in bins."""
    bins = min(width, len(values))
    edges = [len(values) * place // bins for place in range(bins + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in means)


def timing(log: Row) -> str:
    """Where the time of an update went, in one line."""
    total = cast(float, log["time/seconds"])
    shares = [
        f"{label} {cast(float, log[metric]) / total:.0%}"
        for metric, label in TIMES.items()
        if total and metric in log
    ]
    speed = f"{cast(float, log['speed/tokens_per_second']):.0f} tokens/s"
    memory = f"peak {cast(float, log['memory/peak_gib']):.2f} GiB"
    return "  ".join([f"{total:.2f} s an update: " + ", ".join(shares), speed, memory])


class _Nothing:
    """Takes the place of a display where there is no terminal."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, _: object) -> None:
        """Shows nothing."""
