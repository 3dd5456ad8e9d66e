"""What each condition cost, so that equal compute can be read off."""

from __future__ import annotations

from sdbench.report import wording
from sdbench.report.charts.scatter import Reached, scatter
from sdbench.report.charts.svg import axis, figure, key, style_of
from sdbench.report.pages import fill
from sdbench.report.schema import Comparison, LedgerRow, RunEntry
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 9
TITLE = "Compute"
READ = (
    "Equal updates are not equal compute: a condition that draws a group of completions for each "
    "problem pays for all of them, and one with a teacher pays for what the teacher reads. Compare "
    "conditions in the column that matters to you. Wall time is of this machine and includes "
    "whatever else it was doing; the token counts do not depend on it."
)
COUNTS = {
    "updates": "Updates",
    "problems": "Problems",
    "completions": "Completions",
    "tokens_generated": "Generated",
    "tokens_trained": "Trained",
    "teacher_tokens": "Teacher read",
    "critic_tokens": "Critic",
    "critic_tokens_stored": "Of it stored",
    "untaught_rollouts": "Untaught",
}
ABOUT = {
    "problems": "Problems drawn, repeats counted",
    "tokens_generated": "Completion tokens of all rollouts",
    "tokens_trained": "Completion tokens with a gradient",
    "teacher_tokens": "Tokens the teacher read, prompts included",
    "critic_tokens": "Tokens the critic read and wrote; 0 for a critic that is no model",
    "critic_tokens_stored": "Of these, tokens of critiques that had been bought before",
    "untaught_rollouts": "Completions that trained nothing: no teacher, and no advantage or one of 0",
}


def render(comparison: Comparison) -> str:
    """As HTML."""
    if not _trained(comparison):
        return ""
    return fill(
        "section.html",
        read=READ,
        figures=[_figure(comparison)],
        tables=[_table(comparison).html(), _times(comparison).html()],
        folded=[_runs(comparison).html()],
        fold="Every run",
        notes=[],
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    if not _trained(comparison):
        return ""
    tables = (_table(comparison), _times(comparison), _runs(comparison))
    return "\n".join([how_to_read(READ), "", *(table.markdown() for table in tables)])


def _trained(comparison: Comparison) -> list[LedgerRow]:
    return [row for row in comparison["ledger"] if row["mean"]["completions"] > 0]


def _columns(head: str) -> tuple[Column, ...]:
    counts = (Column(title, ABOUT.get(name, "")) for name, title in COUNTS.items())
    return (Column(head, numeric=False), *counts, Column("Seconds", "Wall time in all"))


def _table(comparison: Comparison) -> Table:
    rows = tuple(
        (_head(comparison, row), *_counts(row["mean"], row["mean"]["seconds"].get("total", 0.0)))
        for row in _trained(comparison)
    )
    caption = "Cost of one training run, mean over seeds; generated to critic in tokens"
    return Table(caption, _columns("Condition"), rows, sortable=True)


def _runs(comparison: Comparison) -> Table:
    rows = tuple(
        (
            _run_head(comparison, run),
            *_counts(run["ledger"], run["ledger"]["seconds"].get("total", 0.0)),
        )
        for run in comparison["runs"]
        if run["ledger"]["completions"] > 0
    )
    return Table("Cost of every run", _columns("Run"), rows, sortable=True)


def _times(comparison: Comparison) -> Table:
    trained = _trained(comparison)
    stages = list(dict.fromkeys(stage for row in trained for stage in row["mean"]["seconds"]))
    rows = tuple(
        (
            _head(comparison, row),
            *(Cell(wording.number(row["mean"]["seconds"].get(stage), 0)) for stage in stages),
        )
        for row in trained
    )
    columns = (
        Column("Condition", numeric=False),
        *(Column(stage.capitalize()) for stage in stages),
    )
    return Table("Where the wall time went, seconds, mean over seeds", columns, rows)


def _head(comparison: Comparison, row: LedgerRow) -> Cell:
    condition = row["condition"]
    return Cell(
        wording.condition_name(condition),
        wording.seeds(row["seeds"]),
        key=key(comparison, condition),
    )


def _run_head(comparison: Comparison, run: RunEntry) -> Cell:
    name = f"{wording.condition_name(run['condition'])}, seed {run['seed']}"
    return Cell(name, key=key(comparison, run["condition"]))


def _counts(entry: object, seconds: float) -> list[Cell]:
    assert isinstance(entry, dict)
    cells = [Cell(wording.number(entry[name]), sort=entry[name]) for name in COUNTS]
    return [*cells, Cell(wording.number(seconds), sort=seconds)]


def _figure(comparison: Comparison) -> str:
    avg = f"avg@{comparison['k']}"
    scores = {row["condition"]: row for row in comparison["leaderboard"]}
    reached = []
    for row in _trained(comparison):
        selected = scores[row["condition"]]["selected"][avg]
        last = scores[row["condition"]]["last"][avg]
        low, high = selected["low"], selected["high"]
        reached.append(
            Reached(
                label=wording.condition_name(row["condition"]),
                style=style_of(comparison, row["condition"]),
                cost=(row["completions_selected"], float(row["mean"]["completions"])),
                score=(selected["value"], last["value"]),
                low=selected["value"] if low is None else low,
                high=selected["value"] if high is None else high,
            )
        )
    untrained = scores["base"]["selected"][avg]["value"] if "base" in scores else None
    levels = [v for one in reached for v in (one.low, one.high, *one.score)]
    levels += [] if untrained is None else [untrained]
    values = axis(levels, wording.percent_tick, wording.metric_name(avg), 5)
    return figure(
        "compute",
        f"{wording.metric_name(avg)} on test against completions drawn",
        " ".join(
            f"{one.label}: {wording.percent(one.score[0])} after {one.cost[0]:,.0f} completions."
            for one in reached
        ),
        lambda width: scatter(
            reached, values, "Completions drawn in training (logarithmic)", untrained, width
        ),
        "Solid: selected checkpoint, with its interval over problems. Hollow: last checkpoint. "
        "Conditions are set apart a little where they cost the same.",
    )
