"""Every pair of conditions: the difference on the same problems, corrected for looking at many."""

from __future__ import annotations

from sdbench.report import wording
from sdbench.report.charts.dots import DotRow, Range, dot_plot
from sdbench.report.charts.svg import NEUTRAL, axis, figure
from sdbench.report.pages import fill
from sdbench.report.pairs import EFFECTS
from sdbench.report.schema import Comparison, Pair
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 2
TITLE = "Paired differences"
READ = (
    "Each row subtracts the second condition from the first, problem by problem, so that problems "
    "hard for both cancel out. The p-value (signs of the problems' differences flipped) and the "
    "first interval (thick) hold for these trained models; the second (thin) draws training seeds "
    "as well. A difference counts if it survives Holm's correction for all these pairs at 5 % "
    "(filled). Detectable is the smallest true difference that this many problems show with 80 % "
    "power in a single test of these trained models at 5 %; what lies below it (grey band) would "
    "likely stay hidden. Correction and new training seeds raise it."
)
PLAIN = (
    "Each row subtracts the second model from the first, problem by problem, so that problems hard "
    "for both cancel out. The p-value (signs of the problems' differences flipped) and the interval "
    "hold for problems of this kind. A difference counts if it survives Holm's correction for all "
    "these pairs at 5 % (filled). Detectable is the smallest true difference that this many "
    "problems show with 80 % power in a single test at 5 %; what lies below it (grey band) would "
    "likely stay hidden. Correction raises it."
)
NEEDED = (
    "The second table asks how many problems of this kind would show a true difference of 2 and of "
    "5 points with 80 % power, from the spread seen here: with as many samples a problem, and with "
    "twice as many. Sampling noise is the part of that spread that comes from having so few samples; "
    "more of them can remove that part and no more. Ahead, behind and level count problems by the "
    "first's score against the second's."
)


def render(comparison: Comparison) -> str:
    """As HTML."""
    if not comparison["pairs"]:
        return ""
    return fill(
        "section.html",
        read=_read(comparison),
        figures=[_figure(comparison)],
        tables=[_table(comparison).html(), _needed(comparison).html()],
        notes=[],
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    if not comparison["pairs"]:
        return ""
    tables = f"{_table(comparison).markdown()}\n{_needed(comparison).markdown()}"
    return f"{how_to_read(_read(comparison))}\n\n{tables}"


def _read(comparison: Comparison) -> str:
    return f"{READ if _with_seeds(comparison) else PLAIN} {NEEDED}"


def _with_seeds(comparison: Comparison) -> bool:
    return any(row["trained"] for row in comparison["leaderboard"])


def _name(pair: Pair) -> str:
    first, second = wording.condition_name(pair["first"]), wording.condition_name(pair["second"])
    return f"{first} {wording.MINUS} {second}"


def _table(comparison: Comparison) -> Table:
    columns = (
        Column("Difference", numeric=False),
        Column("Points", "Percentage points of Avg, 95 % t interval over problems"),
        Column("Interval with seeds", "Interval over problems and training seeds"),
        Column("p", "Two-sided, by flipping signs"),
        Column("Holm p", "Corrected for all these pairs"),
        Column("Detectable", "Smallest true difference shown with 80 % power, points"),
        Column("Finding", numeric=False),
    )
    rows = tuple(_row(pair) for pair in comparison["pairs"])
    caption = f"Differences in Avg@{comparison['k']} on test, selected checkpoints, in points"
    return Table(caption, columns, rows, sortable=True)


def _needed(comparison: Comparison) -> Table:
    k = comparison["k"]
    columns = (
        Column("Difference", numeric=False),
        Column("Ahead", "Problems on which the first scored above the second"),
        Column("Behind", "Problems on which it scored below"),
        Column("Level", "Problems on which both scored the same"),
        Column("Detectable", "With the problems there are, points"),
        Column("Sampling noise", "Part of the variance over problems, at most all of it"),
        *(
            column
            for points in EFFECTS
            for column in (
                Column(f"Problems for {points} points", f"With {k} samples each"),
                Column(f"{points} points, {2 * k} samples", "Problems with twice as many samples"),
            )
        ),
    )
    rows = tuple(_needed_row(pair) for pair in comparison["pairs"])
    return Table("Problems won and lost, and what would show more", columns, rows, sortable=True)


def _needed_row(pair: Pair) -> tuple[Cell, ...]:
    flips, detectable, share = pair["flips"], pair["minimum_detectable"], pair["sampling_share"]
    needed = {one["points"]: one for one in pair["needed"]}
    counts = [
        count
        for points in EFFECTS
        for count in (
            (needed[points]["problems"], needed[points]["doubled"])
            if points in needed
            else (None, None)
        )
    ]
    return (
        Cell(_name(pair)),
        *(Cell(str(flips[name]), sort=flips[name]) for name in ("won", "lost", "tied")),
        Cell(wording.NONE if detectable is None else f"{100 * detectable:.1f}", sort=detectable),
        Cell(wording.percent(share), sort=share),
        *(Cell(wording.number(count), sort=count) for count in counts),
    )


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
