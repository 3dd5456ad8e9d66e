"""Where along a trace the teacher disagrees with the student, and how well it finds the error."""

from __future__ import annotations

from sdbench.report import wording
from sdbench.report.charts.dots import DotRow, Range, dot_plot
from sdbench.report.charts.svg import axis, figure, key, style_of
from sdbench.report.pages import fill
from sdbench.report.schema import Advantage, Comparison, Estimate
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 6
TITLE = "Per-token advantage"
READ = (
    "The advantage A_t of a token is the teacher's log-probability minus the student's, in nats: "
    "negative where the teacher, who reads more than the student, would rather not have written it. "
    "After the first error means after the first wrong step or, in a trace that is not right though "
    "no step is wrong, after its written steps. "
    "Useful feedback leaves correct steps alone (near zero) and objects at the first wrong one. The "
    "localisation score is the share of all negative advantage that falls on the first wrong step: "
    "100 % objects there and nowhere else. Pooled sums over traces first, so long and loud traces "
    "count more; per trace averages the traces' own scores. The uniform baseline is what a teacher "
    "gets that objects equally everywhere, which is the share of tokens in that step. The "
    "traces are the untrained model's, so training seeds play no part, and the same for all; but a "
    "condition is shown on those alone on which it has feedback. Rows over fewer traces are over other "
    "ones than the rest: they are chosen, not drawn."
)
TEACHERS_ONLY = "Conditions without a teacher have no A_t and no row."
ROLES = {
    "correct": "Correct steps",
    "first_wrong": "First wrong step",
    "later": "After the first error",
}


def render(comparison: Comparison) -> str:
    """As HTML."""
    if not comparison["advantages"]:
        return ""
    return fill(
        "section.html",
        read=READ,
        figures=[_means(comparison), *_localisation(comparison)],
        tables=[_table(comparison).html()],
        notes=[TEACHERS_ONLY, _disagreement(comparison)],
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    if not comparison["advantages"]:
        return ""
    notes = f"{TEACHERS_ONLY} {_disagreement(comparison)}".rstrip()
    return f"{how_to_read(READ)}\n\n{_table(comparison).markdown()}\n{notes}"


def _disagreement(comparison: Comparison) -> str:
    """Says so where the two ways to average put different conditions first."""
    pooled, per_trace = {}, {}
    for one in comparison["advantages"]:
        scores = one["localisation"]
        if scores["pooled"] is not None and scores["per_trace"]:
            pooled[one["condition"]] = scores["pooled"]
            per_trace[one["condition"]] = scores["per_trace"]["value"]
    if not pooled:
        return ""
    first, other = max(pooled, key=pooled.__getitem__), max(per_trace, key=per_trace.__getitem__)
    if first == other:
        return ""
    return (
        f"The two averages put different conditions first: pooled {wording.condition_name(first)}, "
        f"per trace {wording.condition_name(other)}."
    )


def _table(comparison: Comparison) -> Table:
    columns = (
        Column("Condition", numeric=False),
        *(Column(name, "Mean A_t, nats, 95 % interval over traces") for name in ROLES.values()),
        Column("Localisation, pooled"),
        Column("Localisation, per trace"),
        Column("Uniform baseline"),
        Column("Scored traces", "With a wrong step and an objection to something, of all traces"),
    )
    rows = tuple(_row(comparison, one) for one in comparison["advantages"])
    return Table("Mean A_t in nats, and localisation scores", columns, rows)


def _row(comparison: Comparison, one: Advantage) -> tuple[Cell, ...]:
    scores = one["localisation"]
    return (
        Cell(wording.condition_name(one["condition"]), key=key(comparison, one["condition"])),
        *(_nats(one["mean_advantage"].get(role)) for role in ROLES),
        Cell(wording.percent(scores["pooled"])),
        Cell(
            wording.percent(scores["per_trace"]["value"] if scores["per_trace"] else None),
            wording.percent_interval(scores["per_trace"]) if scores["per_trace"] else "",
        ),
        Cell(wording.percent(scores["uniform"])),
        Cell(_scored(one)),
    )


def _scored(one: Advantage) -> str:
    scored = one["traces_with_wrong_step"]
    text = f"{wording.NONE if scored is None else scored} of {one['traces']}"
    asked = one["traces_asked"]
    return text if asked in (None, one["traces"]) else f"{text} with feedback, of {asked}"


def _nats(found: Estimate | None) -> Cell:
    if found is None:
        return Cell(wording.NONE)
    return Cell(wording.signed(found["value"]), wording.number_interval(found, 2))


def _means(comparison: Comparison) -> str:
    rows = [
        _mean_row(comparison, one, role, number == 0)
        for role in ROLES
        for number, one in enumerate(comparison["advantages"])
    ]
    ends = [end for row in rows if row.thick for end in (row.thick.low, row.thick.high)]
    values = axis([0.0, *ends, *(row.value or 0.0 for row in rows)], _tick, "Mean advantage, nats")
    return figure(
        "advantage",
        "Mean advantage by kind of step",
        " ".join(f"{row.group} {row.label}: {row.numbers} nats.".strip() for row in rows),
        lambda width: dot_plot(rows, values, width, zero=True),
        "Left of zero: the teacher objects. Bars: 95 % intervals over traces.",
    )


def _mean_row(comparison: Comparison, one: Advantage, role: str, first: bool) -> DotRow:
    found = one["mean_advantage"].get(role)
    return DotRow(
        label=wording.condition_name(one["condition"]),
        style=style_of(comparison, one["condition"]),
        value=found["value"] if found else None,
        numbers=wording.signed(found["value"] if found else None),
        note=wording.number_interval(found, 2) if found else "no such step",
        thick=_range(found),
        group=ROLES[role] if first else "",
    )


def _localisation(comparison: Comparison) -> list[str]:
    rows = [
        _localisation_row(comparison, one)
        for one in comparison["advantages"]
        if one["localisation"]["per_trace"]
    ]
    if not rows:
        return []
    values = axis(
        [0.0, 1.0],
        wording.percent_tick,
        "Share of negative advantage on the first wrong step",
        5,
    )
    return [
        figure(
            "localisation",
            "How much of the objection falls on the first wrong step",
            " ".join(f"{row.label}: {row.numbers} per trace, {row.note}." for row in rows),
            lambda width: dot_plot(rows, values, width),
            "Solid: mean per trace with interval. Diamond: pooled. Dashed: uniform baseline.",
        )
    ]


def _localisation_row(comparison: Comparison, one: Advantage) -> DotRow:
    scores = one["localisation"]
    found = scores["per_trace"]
    return DotRow(
        label=wording.condition_name(one["condition"]),
        style=style_of(comparison, one["condition"]),
        value=found["value"] if found else None,
        numbers=wording.percent(found["value"] if found else None),
        note=f"pooled {wording.percent(scores['pooled'])}",
        thick=_range(found),
        diamond=scores["pooled"],
        tick=scores["uniform"],
    )


def _range(found: Estimate | None) -> Range | None:
    if found is None or found["low"] is None or found["high"] is None:
        return None
    return Range(found["low"], found["high"])


def _tick(value: float) -> str:
    return wording.tick(value, plus=True)
