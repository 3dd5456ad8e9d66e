"""A comparison rendered: one offline HTML file, Markdown, CSV, and the data itself.

In: a `Comparison`. Out: `index.html`, `report.md`, `leaderboard.csv`, `comparison.json`. Nothing is
computed here that is not in the comparison, and equal comparisons give equal bytes. A module in
`sections/` with `ORDER`, `TITLE`, `render` and `markdown` is a section.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from sdbench.report import sections, wording
from sdbench.report.pages import fill, source
from sdbench.report.schema import Comparison, LeaderboardRow, Score
from sdbench.report.tables import escape
from sdbench.report.wording import metric_name
from sdbench.rundir import write_text

CSV_COLUMNS = (
    *("condition", "checkpoint", "metric", "value", "low", "high", "seeds_low", "seeds_high"),
    *("standard_error", "these_problems_standard_error", "problems", "seeds"),
)


class Section(Protocol):
    """A module of `sections/`.

    Attributes:
        ORDER: Where it stands.
        TITLE: Its heading.
    """

    ORDER: int
    TITLE: str

    def render(self, comparison: Comparison) -> str:
        """The body as HTML; empty leaves the section out."""
        ...

    def markdown(self, comparison: Comparison) -> str:
        """The body as Markdown; empty leaves the section out."""
        ...


def write(comparison: Comparison, out: Path) -> None:
    """Writes the report's four files into a folder, each of them whole or not at all."""
    write_text(out / "comparison.json", data(comparison))
    write_text(out / "leaderboard.csv", leaderboard_csv(comparison))
    write_text(out / "report.md", markdown(comparison))
    write_text(out / "index.html", html(comparison))


def section_names() -> list[str]:
    """Names of all sections in the order in which they stand."""
    found = (module.name for module in pkgutil.iter_modules(sections.__path__))
    return sorted(found, key=lambda name: (_section(name).ORDER, name))


def html(comparison: Comparison) -> str:
    """The whole report as one HTML file that needs nothing else."""
    parts = [
        {"name": name, "title": _section(name).TITLE, "body": body}
        for name in section_names()
        if (body := _section(name).render(comparison))
    ]
    return str(
        fill(
            "index.html",
            comparison=comparison,
            title=comparison["title"],
            question=wording.question(comparison),
            headline=comparison["headline"],
            command=comparison["command"],
            data="comparison.json",
            wording=wording,
            sections=parts,
            style=source("style.css"),
            script=source("page.js"),
        )
    )


def markdown(comparison: Comparison) -> str:
    """The same report as Markdown, without the figures."""
    lines = [f"# {escape(comparison['title'])}", "", f"{wording.question(comparison)}.", ""]
    if comparison["organism"]:
        lines += [*_notice(comparison), ""]
    lines += [f"- {escape(sentence)}" for sentence in comparison["headline"]]
    for name in section_names():
        body = _section(name).markdown(comparison)
        if body:
            lines += ["", f"## {_section(name).TITLE}", "", body.rstrip()]
    return "\n".join(lines) + "\n"


def leaderboard_csv(comparison: Comparison) -> str:
    """The leaderboard with one line for each condition, checkpoint and metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in comparison["leaderboard"]:
        writer.writerows(_csv_rows(row))
    return file.getvalue()


def data(comparison: Comparison) -> str:
    """The comparison as JSON."""
    return json.dumps(comparison, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _notice(comparison: Comparison) -> list[str]:
    """What the organism's figures are no evidence for, as a quotation."""
    choices = [f"> {number}. {choice}" for number, choice in enumerate(wording.LATE_CHOICES, 1)]
    return [
        *(f"> {wording.ORGANISM_NOTICE}", ">", f"> {wording.CHOSEN_LATE}", ">"),
        *choices,
        *(">", f"> {wording.selection(comparison)}"),
    ]


def _csv_rows(row: LeaderboardRow) -> list[list[object]]:
    return [
        _csv_row(row, checkpoint, name, score)
        for checkpoint, scores in (("selected", row["selected"]), ("last", row["last"]))
        for name, score in scores.items()
    ]


def _csv_row(row: LeaderboardRow, checkpoint: str, name: str, score: Score) -> list[object]:
    seeds = score["seeds"]
    return [
        *(row["condition"], checkpoint, metric_name(name), score["value"]),
        *(score["low"], score["high"]),
        *((seeds["low"], seeds["high"]) if seeds else (None, None)),
        *(score["standard_error"], score["these_problems_standard_error"]),
        *(score["problems"], len(row["seeds"])),
    ]


def _section(name: str) -> Section:
    return cast(Section, importlib.import_module(f"sdbench.report.sections.{name}"))
