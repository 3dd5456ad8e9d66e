"""The report of the critic benchmark, in the look of the project's other reports.

In: benchmark folders, one for each critic and data set. Out: `index.html`, `report.md`, `scores.csv` and
`results.json`. Nothing is computed here that is not in the results, and equal results give equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from sdbench.critic_bench import tables
from sdbench.critic_bench.schema import Figure, Result, Scores
from sdbench.errors import DataError
from sdbench.report import wording
from sdbench.report.pages import fill, source
from sdbench.report.tables import Table, escape, how_to_read
from sdbench.rundir import JsonValue, Row, read_json, write_text

TITLE = "Critics: where is the first wrong step?"
EYEBROW = "critic benchmark"
READ = (
    "A critic reads a trace and says which step is the first wrong one, or that all is right. "
    "Located is the share of erroneous traces whose step it names exactly, cleared the share of "
    "error-free traces it says are right, and F1 their harmonic mean, as in ProcessBench "
    "(2412.06559): it is high only if both are. A critique that cannot be read counts as wrong in "
    "every share and is never left out. Intervals are 95 % intervals and say how far a figure would "
    "move with other problems of this kind; those of both F1 and of precision are percentiles of a "
    "bootstrap over problems. Where there are too few traces of a kind there is none. Controls say "
    "without reading what a critic might say and are computed, not drawn: guessing evenly names any "
    "step of the trace, or none, with equal chances."
)
ABOUT = {
    "champ": (
        "CHAMP (2401.06961): solutions written by four models, in which people marked the first "
        "wrong passage. Steps are paragraphs, cut by a rule that does not see the marks; the step "
        "in which the mark begins is the first wrong one."
    ),
    "arithmetic": (
        "Rollouts of the tiny solver, a model organism, on sums and products modulo 10, checked "
        "exactly. A critic that is a language model is not told of modulo 10, so this is no fair "
        "test of one."
    ),
}
PROVENANCE = "What a reader needs to judge the figures and to make them again."
CSV_COLUMNS = (
    *("data", "fingerprint", "critic", "part", "name"),
    *("metric", "value", "low", "high", "problems", "traces"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What is rendered.

    Attributes:
        results: One for each critic and data set.
        command: What made the report.
    """

    results: tuple[Result, ...]
    command: str


def read(folders: Sequence[Path], command: str) -> Report:
    """Reads benchmark folders; where critics would go by the same name, the folder's name is added.

    Raises:
        DataError: a folder holds no results.
    """
    results = [_read(folder) for folder in folders]
    labels = Counter(_place(one) for one in results)
    distinct = [
        one if labels[_place(one)] == 1 else _relabelled(one, folder.name)
        for one, folder in zip(results, folders, strict=True)
    ]
    return Report(tuple(distinct), command)


def write(report: Report, out: Path) -> None:
    """Writes the four files into a folder, each of them whole or not at all."""
    write_text(out / "results.json", data(report))
    write_text(out / "scores.csv", scores_csv(report))
    write_text(out / "report.md", markdown(report))
    write_text(out / "index.html", html(report))


def data(report: Report) -> str:
    """All results as JSON."""
    value = {"title": TITLE, "command": report.command, "results": report.results}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def html(report: Report) -> str:
    """The whole report as one HTML file that needs nothing else."""
    found = tables.groups(report.results)
    sections = [
        {"name": group.name, "title": group.title, "body": _section(group, about)}
        for group, about in zip(found, _abouts(found), strict=True)
    ]
    sections.append({"name": "provenance", "title": "Provenance", "body": _provenance(report)})
    return str(
        fill(
            "critics.html",
            title=TITLE,
            eyebrow=EYEBROW,
            question=_question(report),
            headline=_headline(found),
            command=report.command,
            data="results.json",
            sections=sections,
            style=source("style.css"),
            script=source("page.js"),
        )
    )


def markdown(report: Report) -> str:
    """The same report as Markdown, without the figures."""
    found = tables.groups(report.results)
    lines = [f"# {TITLE}", "", f"{_question(report)}.", ""]
    lines += [f"- {escape(sentence)}" for sentence in _headline(found)]
    for group, about in zip(found, _abouts(found), strict=True):
        lines += ["", f"## {group.title}", "", how_to_read(about), ""]
        lines += [table.markdown() for table in (tables.leaderboard(group), *_parts(group))]
    lines += ["", "## Provenance", ""]
    lines += [f"- {escape(_settings(one))}" for one in report.results]
    lines += [f"- {name}: {escape(value)}" for name, value in _facts(report).items()]
    lines += ["", "To repeat it:", "", *(f"    {one}" for one in _commands(report))]
    return "\n".join(lines) + "\n"


def scores_csv(report: Report) -> str:
    """One line for each critic or control, part of the data and metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for group in tables.groups(report.results):
        for row in group.rows:
            start = [group.data["name"], group.data["fingerprint"], row.label]
            for part, name, found in _scored(row):
                for metric, figure in cast("dict[str, Figure | None]", found).items():
                    if figure is not None:
                        writer.writerow([*start, part, name, metric, *_csv_figure(figure)])
    return file.getvalue()


def print_results(report: Report) -> None:
    """Prints a leaderboard of each data set to stdout, then what came out."""
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console(highlight=False, markup=False)
    found = tables.groups(report.results)
    for group in found:
        shown = tables.brief(group)
        table = Printed(title=shown.caption, box=None, pad_edge=False)
        for column in shown.columns:
            side: Literal["left", "right"] = "right" if column.numeric else "left"
            table.add_column(column.title, justify=side, no_wrap=column.numeric)
        for row in shown.rows:
            table.add_row(*(f"{cell.text}\n{cell.note}".strip() for cell in row))
        console.print(table)
    for sentence in _headline(found):
        console.print(sentence)


def _read(folder: Path) -> Result:
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(
            f"{folder} holds no results of the critic benchmark: no results.json",
            hint="give folders that `sdbench bench critics` wrote",
        )
    row = read_json(path)
    if not {"critic", "data", "scores", "controls"} <= row.keys():
        raise DataError(f"{path} holds no result of the critic benchmark")
    return cast(Result, row)


def _place(result: Result) -> tuple[str, str, str]:
    """Where a critic stands: two with equal places would look the same."""
    return result["data"]["name"], result["data"]["fingerprint"], result["critic"]["label"]


def _relabelled(result: Result, folder: str) -> Result:
    critic = result["critic"]
    label = f"{critic['label']} ({folder})"
    return {**result, "critic": {**critic, "label": label}}


def _question(report: Report) -> str:
    critics = len({one["critic"]["label"] for one in report.results})
    traces = sum(group.data["traces"] for group in tables.groups(report.results))
    sets = wording.listed(sorted({one["data"]["name"] for one in report.results}))
    return f"{wording.counted(critics, 'critic')} on {wording.counted(traces, 'trace')} of {sets}"


def _headline(found: Sequence[tables.Group]) -> list[str]:
    return [sentence for group in found for sentence in tables.headline(group)]


def _section(group: tables.Group, about: str) -> str:
    return fill(
        "section.html",
        read=about,
        figures=[tables.chart(group)],
        tables=[tables.leaderboard(group).html()],
        folded=[table.html() for table in _parts(group)],
        fold="By author, by category",
        notes=[],
    )


def _abouts(found: Sequence[tables.Group]) -> list[str]:
    """How to read each group; what holds for all stands with the first."""
    return [f"{_about(group)} {READ if group is found[0] else ''}".strip() for group in found]


def _about(group: tables.Group) -> str:
    chosen = group.data["chosen"]
    taken = "" if chosen == "all" else f" The traces were chosen {chosen}."
    return f"{ABOUT.get(group.data['name'], '')}{taken}".strip()


def _parts(group: tables.Group) -> list[Table]:
    """Not by author where there is one only."""
    by_author = [tables.by_author(group)] if len(group.data["authors"]) > 1 else []
    return [*by_author, tables.by_category(group)]


def _provenance(report: Report) -> str:
    return fill(
        "provenance.html",
        read=PROVENANCE,
        heading="",
        organism=(),
        general=[_settings(one) for one in report.results],
        facts=_facts(report),
        command=report.command,
        commands=[one for one in _commands(report) if one != report.command],
        suite_title="Critics and data as resolved",
        suite=json.dumps(
            [{"critic": one["critic"], "data": one["data"]} for one in report.results],
            indent=2,
            ensure_ascii=False,
        ),
    )


def _settings(result: Result) -> str:
    """`SmolLM2 on champ: max_tokens = 1024, ...`, with what it cost."""
    critic, ledger = result["critic"], result["ledger"]
    options = ", ".join(f"{name} = {json.dumps(one)}" for name, one in critic["options"].items())
    silent = f"; it said nothing of {ledger['missing']}" if ledger["missing"] else ""
    return (
        f"{critic['label']} on {result['data']['name']}: {options or 'no options'}. It gave "
        f"{wording.counted(ledger['critiques'], 'critique')}, {ledger['unreadable']} of them "
        f"unreadable and {ledger['refused']} refused by its own audit{silent}. They took "
        f"{wording.number(ledger['tokens'])} tokens and {wording.number(ledger['seconds'], 1)} "
        "seconds."
    )


def _facts(report: Report) -> dict[str, str]:
    calls = [call for one in report.results for call in _calls(one)]
    found = {
        "Data": "; ".join(dict.fromkeys(g.title for g in tables.groups(report.results))),
        "Code": _distinct(call["git"] for call in calls),
        "Hardware": _distinct(_hardware(call) for call in calls),
        "Versions": _distinct(_versions(call) for call in calls),
        "Asked": _distinct(str(call["started"])[:10] for call in calls),
    }
    return {name: value for name, value in found.items() if value}


def _commands(report: Report) -> list[str]:
    asked = [str(call["command"]) for one in report.results for call in _calls(one)]
    return list(dict.fromkeys([*asked, report.command]))


def _calls(result: Result) -> list[Row]:
    return cast("list[Row]", result["asked"])


def _hardware(call: Row) -> str:
    hardware = cast(Row, call["hardware"])
    return f"{hardware['cores']} x {hardware['cpu']}, {hardware['device']}"


def _versions(call: Row) -> str:
    return ", ".join(f"{name} {one}" for name, one in cast(Row, call["versions"]).items())


def _distinct(values: Iterable[JsonValue]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))


def _scored(row: tables.Row) -> Iterator[tuple[str, str, Scores]]:
    """Part of the data, its name, and the scores on it."""
    yield "all", "", row.scores
    if row.result is not None:
        yield from (("author", name, one) for name, one in row.result["by_author"].items())
        yield from (("category", name, one) for name, one in row.result["by_category"].items())


def _csv_figure(figure: Figure) -> list[object]:
    return [
        *(figure["value"], figure["low"], figure["high"]),
        *(figure["problems"], figure["traces"]),
    ]
