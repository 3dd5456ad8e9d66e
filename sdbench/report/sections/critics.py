"""What critiques were worth: how faithful, how often right, and what was held against them."""

from __future__ import annotations

from collections.abc import Mapping

from sdbench.report import wording
from sdbench.report.charts.svg import key
from sdbench.report.pages import fill
from sdbench.report.schema import AuditShare, Comparison, CriticAudit
from sdbench.report.tables import Cell, Column, Table, how_to_read

ORDER = 7
TITLE = "Critiques"
READ = (
    "What was audited is each critique as the critic wrote it, before a condition such as "
    "critique_full_quote or critique_shuffled made something else of it for the teacher. Of the "
    "steps before the first wrong one it should copy each token and leave none out (verbatim), it "
    "should not quote the wrong step, and it should come to the right answer without letting it "
    "into a correct step. Whether it finds the first wrong step and names the right case is known "
    "only where steps can be checked exactly. Agreement with the critic aligned, which can err, "
    "is no truth. Shares are means over problems with 95 % intervals clustered by problem; each "
    "is over the critiques to which it applies. Runs are shown one by one, because each wrote its "
    "own rollouts."
)
SHARES = {
    "parsed": ("Readable", "Names a case and is steps and an answer"),
    "verbatim": ("Verbatim", "Share of the correct prefix that is copied, by tokens"),
    "quoted": ("Quotes the error", "Critiques in which the wrong step stands"),
    "leaked": ("Leaks", "Critiques with the right answer in a correct step that does not have it"),
    "answer_right": ("Answer right", "By the grader"),
    "first_error_right": ("First error found", "Where steps can be checked exactly"),
    "case_right": ("Case right", "Likewise"),
}
AGREEMENT = {
    "agrees_on_first_error": "First wrong step",
    "agrees_on_case": "Case",
}
CASES = ("A", "B", "C", "D", "none")


def render(comparison: Comparison) -> str:
    """As HTML."""
    if not comparison["critics"]:
        return ""
    tables = [table.html() for table in _tables(comparison)]
    return fill("section.html", read=READ, figures=[], tables=tables, notes=[])


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    if not comparison["critics"]:
        return ""
    tables = "\n".join(table.markdown() for table in _tables(comparison))
    return f"{how_to_read(READ)}\n\n{tables}"


def _tables(comparison: Comparison) -> list[Table]:
    made = [_worth(comparison), _agreement(comparison), _confusion(comparison), _faults(comparison)]
    return [table for table in made if table is not None]


def _worth(comparison: Comparison) -> Table:
    columns = (
        Column("Run", numeric=False),
        Column("Critic", numeric=False),
        Column("Critiques", "Of the attempts that one was asked of"),
        *(Column(title, about) for title, about in SHARES.values()),
        Column("Length", "Tokens over the attempt's"),
    )
    rows = tuple(
        (
            _run(comparison, one),
            Cell(one["critic"]),
            Cell(f"{one['critiques']:,} of {one['attempts']:,}", sort=one["critiques"]),
            *(_share(one["shares"].get(name)) for name in SHARES),
            _ratio(one["ratio"]),
        )
        for one in comparison["critics"]
    )
    caption = "Critiques that runs were trained on; 95 % intervals in brackets"
    return Table(caption, columns, rows, sortable=True)


def _agreement(comparison: Comparison) -> Table | None:
    rows = tuple(
        (_run(comparison, one), *(_share(one["shares"].get(name)) for name in AGREEMENT))
        for one in comparison["critics"]
        if any(one["shares"].get(name) for name in AGREEMENT)
    )
    columns = (Column("Run", numeric=False), *map(Column, AGREEMENT.values()))
    return Table("Agreement with aligned", columns, rows) if rows else None


def _confusion(comparison: Comparison) -> Table | None:
    rows = tuple(
        (
            _run(comparison, one),
            Cell(true),
            *(Cell(wording.number(named.get(case, 0)), sort=named.get(case, 0)) for case in CASES),
        )
        for one in comparison["critics"]
        for true, named in one["confusion"].items()
    )
    columns = (
        Column("Run", numeric=False),
        Column("True case", numeric=False),
        *(Column(f"Named {case}") for case in CASES),
    )
    return Table("Critiques by the true case and the one named", columns, rows) if rows else None


def _faults(comparison: Comparison) -> Table | None:
    """What the critics' own audits refused, so that the rollout was dropped."""
    found = sorted({fault for one in comparison["critics"] for fault in one["faults"]})
    if not found:
        return None
    columns = (Column("Run", numeric=False), *(Column(_words(fault)) for fault in found))
    rows = tuple(
        (_run(comparison, one), *(_count(one["faults"], fault) for fault in found))
        for one in comparison["critics"]
    )
    return Table("Critiques refused, by fault; one may have several", columns, rows)


def _run(comparison: Comparison, one: CriticAudit) -> Cell:
    condition = one["condition"]
    name = f"{wording.condition_name(condition)}, seed {one['seed']}"
    return Cell(name, key=key(comparison, condition))


def _share(found: AuditShare | None) -> Cell:
    if found is None:
        return Cell(wording.NONE)
    note = "" if found["low"] is None else wording.percent_interval(found)
    return Cell(wording.percent(found["value"]), note, sort=round(found["value"], 6))


def _ratio(found: AuditShare | None) -> Cell:
    if found is None:
        return Cell(wording.NONE)
    return Cell(wording.number(found["value"], 2), sort=round(found["value"], 6))


def _count(faults: Mapping[str, int], fault: str) -> Cell:
    return Cell(wording.number(faults.get(fault, 0)), sort=faults.get(fault, 0))


def _words(fault: str) -> str:
    return fault.replace("_", " ").capitalize()
