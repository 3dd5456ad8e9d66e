"""Results of critics side by side: a chart, a leaderboard, and its parts by author and category.

Only critics that judged the very same traces stand in one table. The controls stand in it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sdbench.critic_bench.schema import DataEntry, Figure, Result, Scores
from sdbench.critic_bench.score import GUESS
from sdbench.report import wording
from sdbench.report.charts.dots import DotRow, Range, dot_plot
from sdbench.report.charts.svg import BASE, Style, axis, figure, key_in, style_at
from sdbench.report.tables import Cell, Column, Table

SHARES = {
    "f1": ("F1", "Harmonic mean of located and cleared"),
    "located": ("Located", "Share of erroneous traces whose first wrong step is named exactly"),
    "near": ("Off by at most one", "The same, where the step before or after counts as well"),
    "cleared": ("Cleared", "Share of error-free traces that are said to be right"),
    "exact": ("All exact", "Share of all traces of which exactly the right thing is said"),
    "detection_f1": ("Detection F1", "Only whether there is an error: harmonic mean"),
    "detection_precision": ("Precision", "Of those said to hold an error, the share that does"),
    "detection_recall": ("Recall", "Of those that hold an error, the share that is said to"),
    "unreadable": ("Unreadable", "Share of critiques that cannot be read or did not come"),
    "refused": ("Refused", "Share that can be read but fails the critic's own audit; it counts"),
}
COSTS = {
    "tokens": ("Tokens", "That the critic reads and writes, mean over traces"),
    "seconds": ("Seconds", "Wall time over the number of traces, an engine's start included"),
}
BRIEF = ("f1", "located", "cleared", "unreadable")
PARTS = ("f1", "located", "near", "cleared", "exact", "unreadable")


@dataclass(frozen=True, slots=True)
class Row:
    """A critic or a control.

    Attributes:
        label: Its name in print.
        style: Of its marker.
        scores: On all traces.
        result: The critic's whole result, None for a control.
    """

    label: str
    style: Style
    scores: Scores
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What stands side by side: critics, from the highest F1, and controls, on the same traces."""

    data: DataEntry
    rows: tuple[Row, ...]

    @property
    def critics(self) -> list[Row]:
        """The rows that are no controls."""
        return [row for row in self.rows if row.result is not None]

    @property
    def name(self) -> str:
        """Unique among the groups of a report."""
        return f"{self.data['name']}-{self.data['fingerprint']}"

    @property
    def title(self) -> str:
        """`champ, 64 of 540 traces`."""
        traces, of = self.data["traces"], self.data["of"]
        which = f"{traces} of {of}" if traces < of else f"all {of}"
        return f"{self.data['name']}, {which} traces"


def groups(results: Sequence[Result]) -> list[Group]:
    """Puts results on the same traces together, in the order in which their traces first come."""
    labels = sorted({one["critic"]["label"] for one in results})
    together: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        together.setdefault((one["data"]["name"], one["data"]["fingerprint"]), []).append(one)
    return [_group(some, labels) for some in together.values()]


def chart(group: Group) -> Markup:
    """F1 of critics and controls with their intervals."""
    rows = [_dot_row(row) for row in group.rows if row.scores["f1"] is not None]
    if not rows:
        return Markup("")
    ends = [end for row in rows if row.thick for end in (row.thick.low, row.thick.high)]
    values = axis([0.0, *ends, *(row.value or 0.0 for row in rows)], wording.percent_tick, "F1")
    return figure(
        group.name,
        f"F1 on {group.title}",
        " ".join(f"{row.label}: {row.numbers} {row.note}." for row in rows),
        lambda width: dot_plot(rows, values, width),
        "Thick: 95 % interval over problems. Rings: controls.",
    )


def brief(group: Group) -> Table:
    """What matters most of the leaderboard, as wide as a terminal."""
    columns = (Column("Critic", numeric=False), *(Column(*SHARES[name]) for name in BRIEF))
    rows = tuple((Cell(row.label), *_shares(row.scores, BRIEF)) for row in group.rows)
    return Table(_caption(group), columns, rows)


def leaderboard(group: Group) -> Table:
    """One row for each critic and control."""
    columns = (
        Column("Critic", numeric=False),
        *(Column(title, about) for title, about in (SHARES | COSTS).values()),
    )
    rows = tuple(
        (Cell(row.label, key=key_in(row.style)), *_shares(row.scores, SHARES), *_costs(row))
        for row in group.rows
    )
    return Table(_caption(group), columns, rows, sortable=True)


def by_author(group: Group) -> Table:
    """Critics by the model that wrote the traces."""
    parts = [(row, row.result["by_author"]) for row in group.critics if row.result]
    return _by("Author", group.data["authors"], parts, group)


def by_category(group: Group) -> Table:
    """Critics by category of the problem."""
    parts = [(row, row.result["by_category"]) for row in group.critics if row.result]
    return _by("Category", group.data["categories"], parts, group)


def headline(group: Group) -> list[str]:
    """What came out, in sentences: scores from the highest, and who is above guessing."""
    guess = next(row for row in group.rows if row.label == _control_name(GUESS)).scores["f1"]
    found = wording.listed([f"{row.label} {_in_words(row.scores['f1'])}" for row in group.critics])
    said = [f"F1 on {group.title}: {found}."]
    if guess is None:
        return [*said, "These traces are all erroneous or all free of errors, so there is no F1."]
    above = [row.label for row in group.critics if _above(row.scores["f1"], guess["value"])]
    below = [row.label for row in group.critics if row.label not in above]
    chance = f"guessing evenly, which has {wording.percent(guess['value'])} on these traces"
    if above:
        said.append(f"Above {chance}: {wording.listed(above)}.")
    if below:
        said.append(f"Not shown to be above {chance}: {wording.listed(below)}.")
    return said


def _group(results: Sequence[Result], labels: Sequence[str]) -> Group:
    critics = [
        Row(label, style_at(labels.index(label)), one["scores"], one)
        for one in results
        for label in [one["critic"]["label"]]
    ]
    guesses = [
        Row(_control_name(name), BASE, found) for name, found in results[0]["controls"].items()
    ]
    rows = [*sorted(critics, key=_from_highest), *sorted(guesses, key=_from_highest)]
    return Group(results[0]["data"], tuple(rows))


def _from_highest(row: Row) -> float:
    return -_value(row.scores["f1"])


def _control_name(name: str) -> str:
    return f"control: {name}"


def _dot_row(row: Row) -> DotRow:
    found = row.scores["f1"]
    return DotRow(
        label=row.label,
        style=row.style,
        value=None if found is None else found["value"],
        numbers=wording.percent(None if found is None else found["value"]),
        note=wording.percent_interval(found),
        thick=_range(found),
        hollow=row.result is None,
    )


def _range(found: Figure | None) -> Range | None:
    if found is None or found["low"] is None or found["high"] is None:
        return None
    return Range(max(0.0, found["low"]), min(1.0, found["high"]))


def _caption(group: Group) -> str:
    data = group.data
    return (
        f"{group.title}, {data['erroneous']} with an error and {data['error_free']} without, on "
        f"{wording.counted(data['problems'], 'problem')}; 95 % intervals over problems in brackets"
    )


def _by(
    head: str,
    sizes: dict[str, int],
    parts: Sequence[tuple[Row, dict[str, Scores]]],
    group: Group,
) -> Table:
    columns = (
        Column(head, numeric=False),
        Column("Critic", numeric=False),
        *(Column(*SHARES[name]) for name in PARTS),
        Column("Erroneous", "Traces with an error"),
        Column("Error-free", "Traces without one"),
    )
    rows = tuple(
        (Cell(part), Cell(row.label, key=key_in(row.style)), *_part_cells(found[part]))
        for part in sizes
        for row, found in parts
    )
    return Table(f"{group.title}, by {head.lower()}", columns, rows)


def _part_cells(scores: Scores) -> tuple[Cell, ...]:
    counted = (scores["located"], scores["cleared"])
    sizes = [0 if found is None else found["traces"] for found in counted]
    return (*_shares(scores, PARTS), *(Cell(str(size), sort=size) for size in sizes))


def _shares(scores: Scores, names: Iterable[str]) -> list[Cell]:
    by_name: dict[str, Figure | None] = {**scores}  # type: ignore[dict-item]
    return [_share(by_name[name]) for name in names]


def _share(found: Figure | None) -> Cell:
    if found is None:
        return Cell(wording.NONE)
    return Cell(
        wording.percent(found["value"]),
        wording.percent_interval(found),
        sort=round(found["value"], 6),
    )


def _costs(row: Row) -> tuple[Cell, ...]:
    if row.result is None:
        return Cell(wording.NONE), Cell(wording.NONE)
    return (
        _cost(row.scores["tokens"], 0),
        _cost(row.scores["seconds"], 2),
    )


def _cost(found: Figure | None, digits: int) -> Cell:
    if found is None:
        return Cell(wording.NONE)
    return Cell(
        wording.number(found["value"], digits),
        wording.number_interval(found, digits),
        sort=round(found["value"], 6),
    )


def _in_words(found: Figure | None) -> str:
    if found is None:
        return wording.NONE
    return f"{wording.percent(found['value'])} {wording.percent_interval(found)}"


def _above(found: Figure | None, chance: float) -> bool:
    return found is not None and found["low"] is not None and found["low"] > chance


def _value(found: Figure | None) -> float:
    return -1.0 if found is None else found["value"]
