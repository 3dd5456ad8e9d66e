"""What a terminal shows while work goes on: bars on stderr with an estimate of what remains.

Where stderr is no terminal nothing is shown, so logs and pipes stay clean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sdbench.rundir import Row

if TYPE_CHECKING:
    from rich.progress import Progress

    from sdbench.config import Suite
    from sdbench.suite import Advance, Cell

# What one update costs besides its rollouts, and what a rollout costs, in evaluation samples:
# measured on the tiny solver, used for nothing but the estimate of the time that remains.
UPDATE_COST = 120
ROLLOUT_COST = 3


def new_progress() -> Progress:
    """Bars with share, elapsed and remaining time."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=120,
    )


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """One bar; call it with the amount newly done and a note."""
    with new_progress() as progress:
        task = progress.add_task(description, total=total, note="")

        def advance(done: int, note: str = "") -> None:
            progress.update(task, advance=done, note=note)

        yield advance
        progress.update(task, completed=total, note="")


@contextmanager
def matrix(suite: Suite, cells: Sequence[Cell]) -> Iterator[Callable[[Advance], None]]:
    """A bar for the whole matrix and one for each cell under way."""
    from sdbench.suite import work

    costs = {cell: _cost(suite, cell) for cell in cells}
    with new_progress() as progress:
        whole = progress.add_task(f"{suite.name}: all runs", total=sum(costs.values()), note="")
        tasks: dict[Cell, object] = {}
        done = dict.fromkeys(cells, 0.0)

        def news(advance: Advance) -> None:
            cell = advance.cell
            if cell not in tasks:
                name = f"  {cell.condition} seed {cell.seed}"
                tasks[cell] = progress.add_task(name, total=costs[cell], note="")
            amount = work(suite, cell)
            unit = 1.0
            if advance.stage == "train":
                unit = UPDATE_COST + ROLLOUT_COST * amount.rollouts / amount.updates
            left = costs[cell] - done[cell]
            # A cell can be less work than was reckoned: the selected checkpoint may be the last.
            step = left if advance.stage == "done" else min(advance.done * unit, left)
            done[cell] += step
            task = cast("int", tasks[cell])
            progress.update(task, advance=step, note=note(advance.log))  # type: ignore[arg-type]
            progress.update(whole, advance=step)

        yield news
        progress.update(whole, completed=sum(costs.values()))


def _cost(suite: Suite, cell: Cell) -> float:
    from sdbench.suite import work

    amount = work(suite, cell)
    return UPDATE_COST * amount.updates + ROLLOUT_COST * amount.rollouts + amount.samples


def note(log: Row) -> str:
    """The numbers of an update that a person watches."""
    if not log:
        return ""
    return f"reward {log['rollout/reward']:.2f}  loss {log['train/loss']:.3f}"
