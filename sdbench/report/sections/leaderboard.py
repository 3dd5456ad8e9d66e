"""How well each condition does on test, with both intervals and every seed."""

from __future__ import annotations

from sdbench.report import wording
from sdbench.report.charts.dots import DotRow, Range, dot_plot
from sdbench.report.charts.svg import axis, figure, key, style_of
from sdbench.report.pages import fill
from sdbench.report.schema import Comparison, LeaderboardRow, Score, Span
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 1
TITLE = "Leaderboard"
READ = (
    "Checkpoints were selected on validation and are scored on test; each figure is a mean over "
    "training seeds. The first interval (thick) says how far it would move with other problems of "
    "this kind (95 %, clustered by problem); the second (thin) draws training seeds as well, and "
    "with few seeds it is still too narrow. Overlapping intervals do not mean that conditions are "
    "equal: the paired differences below decide that. Intervals of shares are cut at 0 and 100 %."
)
ABOUT = {
    "avg": "Share of all samples that are right",
    "pass": "Share of problems with at least one right sample",
    "maj": "Share of problems whose most frequent answer is right, ties split",
    "all_steps_right": "Share of samples in which every written step is right",
    "length": "Tokens of a completion",
    "truncated": "Share of samples cut at the token cap",
    "unparsable": "Share of samples without a readable answer",
}


def render(comparison: Comparison) -> str:
    """As HTML."""
    return fill(
        "section.html",
        read=READ,
        figures=[_figure(comparison)],
        tables=[table(comparison).html()],
        notes=[_within(comparison)],
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    return f"{how_to_read(READ)}\n\n{table(comparison).markdown()}\n{_within(comparison)}"


def table(comparison: Comparison) -> Table:
    """The leaderboard as a table."""
    avg = f"avg@{comparison['k']}"
    names = [
        name
        for name in _in_order(comparison["leaderboard"][0]["selected"])
        if name != avg and all(name in row["selected"] for row in comparison["leaderboard"])
    ]
    columns = (
        Column("Condition", numeric=False),
        Column(wording.metric_name(avg), f"{ABOUT['avg']}; interval over problems"),
        Column("Interval with seeds", "Interval over problems and training seeds"),
        *(
            Column(wording.metric_name(name), ABOUT.get(name.partition("@")[0], ""))
            for name in names
        ),
    )
    rows = tuple(_row(comparison, row, avg, names) for row in comparison["leaderboard"])
    return Table(
        "Test set, selected checkpoints; 95 % intervals in brackets", columns, rows, sortable=True
    )


def _in_order(scores: dict[str, Score]) -> list[str]:
    known = list(ABOUT)
    names = [name for name in scores if name.partition("@")[0] in known]
    return sorted(names, key=lambda name: known.index(name.partition("@")[0]))


def _row(
    comparison: Comparison, row: LeaderboardRow, avg: str, names: list[str]
) -> tuple[Cell, ...]:
    condition, scores = row["condition"], row["selected"]
    trained = condition != "base"
    return (
        Cell(
            wording.condition_name(condition),
            wording.seeds(row["seeds"], trained=trained),
            key=key(comparison, condition),
        ),
        _cell(avg, scores[avg]),
        _seeds_cell(scores[avg]["seeds"]),
        *(_cell(name, scores[name]) for name in names),
    )


def _seeds_cell(span: Span | None) -> Cell:
    return Cell(wording.percent_interval(span), sort=round(span["low"], 6) if span else None)


def _cell(name: str, score: Score) -> Cell:
    if name == "length":
        text, note = wording.number(score["value"], 1), wording.number_interval(score)
    else:
        text, note = wording.percent(score["value"]), wording.percent_interval(score)
    return Cell(text, note, sort=round(score["value"], 6))


def _within(comparison: Comparison) -> str:
    """The other standard error: of these very problems, sampled again."""
    avg = f"avg@{comparison['k']}"
    found = [
        f"{wording.condition_name(row['condition'])} {100 * error:.1f}"
        for row in comparison["leaderboard"]
        if (error := row["selected"][avg]["these_problems_standard_error"]) is not None
    ]
    return (
        f"Sampling these very problems again would move {wording.metric_name(avg)} by a standard "
        f"error of (points): {', '.join(found)}."
        if found
        else ""
    )


def _figure(comparison: Comparison) -> str:
    avg = f"avg@{comparison['k']}"
    rows = [_dot_row(comparison, row, row["selected"][avg]) for row in comparison["leaderboard"]]
    ends = [e for row in rows for r in (row.thick, row.thin) if r for e in (r.low, r.high)]
    marks = [mark for row in rows for mark in (row.value, *row.dots) if mark is not None]
    values = axis([*ends, *marks], wording.percent_tick, f"{wording.metric_name(avg)} on test")
    return figure(
        "leaderboard",
        f"{wording.metric_name(avg)} on test",
        " ".join(comparison["headline"][:1]),
        lambda width: dot_plot(rows, values, width),
        "Thick: interval over problems. Thin: over problems and training seeds. Small dots: seeds.",
    )


def _dot_row(comparison: Comparison, row: LeaderboardRow, score: Score) -> DotRow:
    return DotRow(
        label=wording.condition_name(row["condition"]),
        style=style_of(comparison, row["condition"]),
        value=score["value"],
        numbers=wording.percent(score["value"]),
        note=wording.percent_interval(score),
        thick=_range(score),
        thin=_range(score["seeds"]),
        dots=tuple(score["per_seed"]) if len(row["seeds"]) > 1 else (),
    )


def _range(span: Span | Score | None) -> Range | None:
    if span is None or span["low"] is None or span["high"] is None:
        return None
    return Range(max(0.0, span["low"]), min(1.0, span["high"]))
