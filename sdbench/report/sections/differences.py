"""Every pair of conditions: the difference on the same problems, corrected for looking at many."""

from __future__ import annotations

from sdbench.report import wording
from sdbench.report.charts.dots import DotRow, Range, dot_plot
from sdbench.report.charts.svg import NEUTRAL, axis, figure
from sdbench.report.pages import fill
from sdbench.report.schema import Comparison, Pair
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 2
TITLE = "Paired differences"
READ = (
    "Each row subtracts the second condition from the first, problem by problem, so that problems "
    "hard for both cancel out. The p-value (signs of the problems' differences flipped) and the "
    "first interval (thick) hold for these trained models; the second (thin) draws training seeds "
    "as well. A difference counts if it survives Holm's correction for all pairs at 5 % (filled). "
    "Detectable is the smallest true difference that this many problems show with 80 % power in a "
    "single test of these trained models at 5 %; what lies below it (grey band) would likely stay "
    "hidden. Correction and new training seeds raise it."
)


def render(comparison: Comparison) -> str:
    """As HTML."""
    if not comparison["pairs"]:
        return ""
    return fill(
        "section.html",
        read=READ,
        figures=[_figure(comparison)],
        tables=[_table(comparison).html()],
        notes=[],
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    return f"{how_to_read(READ)}\n\n{_table(comparison).markdown()}" if comparison["pairs"] else ""


def _name(pair: Pair) -> str:
    first, second = wording.condition_name(pair["first"]), wording.condition_name(pair["second"])
    return f"{first} {wording.MINUS} {second}"


def _table(comparison: Comparison) -> Table:
    columns = (
        Column("Difference", numeric=False),
        Column("Points", "Percentage points of Avg, 95 % t interval over problems"),
        Column("Interval with seeds", "Interval over problems and training seeds"),
        Column("p", "Two-sided, by flipping signs"),
        Column("Holm p", "Corrected for all pairs"),
        Column("Detectable", "Smallest true difference shown with 80 % power, points"),
        Column("Finding", numeric=False),
    )
    rows = tuple(_row(pair) for pair in comparison["pairs"])
    caption = f"Differences in Avg@{comparison['k']} on test, selected checkpoints, in points"
    return Table(caption, columns, rows, sortable=True)


def _row(pair: Pair) -> tuple[Cell, ...]:
    seeds, detectable = pair["seeds"], pair["minimum_detectable"]
    return (
        Cell(_name(pair)),
        Cell(
            wording.points(pair["difference"]),
            wording.points_interval(pair["low"], pair["high"]),
            sort=round(pair["difference"], 6),
        ),
        Cell(
            wording.points_interval(seeds["low"], seeds["high"]) if seeds else wording.NONE,
            sort=round(seeds["low"], 6) if seeds else None,
        ),
        Cell(wording.p_value(pair["p"]), sort=pair["p"]),
        Cell(wording.p_value(pair["p_holm"]), sort=pair["p_holm"]),
        Cell(wording.NONE if detectable is None else f"{100 * detectable:.1f}", sort=detectable),
        Cell(pair["verdict"]),
    )


def _figure(comparison: Comparison) -> str:
    rows = [_dot_row(pair) for pair in comparison["pairs"]]
    ranges = [r for row in rows for r in (row.thick, row.thin, row.band) if r]
    ends = [
        0.0,
        *(end for r in ranges for end in (r.low, r.high)),
        *(row.value or 0.0 for row in rows),
    ]
    values = axis(ends, _tick, f"Difference in Avg@{comparison['k']}, points")
    return figure(
        "differences",
        f"Difference in Avg@{comparison['k']} on test",
        " ".join(pair["verdict"] for pair in comparison["pairs"]),
        lambda width: dot_plot(rows, values, width, zero=True),
        "Filled: survives Holm's correction. Hollow: does not. Thin: with training seeds. "
        "Band: likely to stay hidden.",
    )


def _dot_row(pair: Pair) -> DotRow:
    hidden = pair["minimum_detectable"]
    return DotRow(
        label=_name(pair),
        style=NEUTRAL,
        value=pair["difference"],
        numbers=wording.points(pair["difference"]),
        note=f"Holm {wording.p_clause(pair['p_holm'])}",
        thick=_range(pair["low"], pair["high"]),
        thin=_range(pair["seeds"]["low"], pair["seeds"]["high"]) if pair["seeds"] else None,
        hollow=not pair["survives"],
        band=_range(-hidden, hidden) if hidden is not None else None,
    )


def _range(low: float | None, high: float | None) -> Range | None:
    return None if low is None or high is None else Range(low, high)


def _tick(value: float) -> str:
    return wording.tick(100 * value, plus=True)
