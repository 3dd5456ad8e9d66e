"""The report of the critic benchmark: critics side by side, on the very same traces, with controls."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from critic_bench_fixture import UNREADABLE, Says, Scripted, candidate, marked

from sdbench.critic_bench import page, run, tables
from sdbench.critic_bench.page import Report
from sdbench.critic_bench.schema import Figure
from sdbench.critic_bench.tables import Group
from sdbench.errors import DataError
from sdbench.report import wording

COMMAND = "sdbench bench critics --report reports/critics"
TRACES = [
    marked(f"{n}/{kind}", truth, author="A" if n < 6 else "B")
    for n in range(12)
    for kind, truth in (("wrong", 2), ("right", None))
]
GOOD: dict[str, Says] = {trace.id: trace.first_wrong for trace in TRACES}
POOR: dict[str, Says] = {trace.id: UNREADABLE for trace in TRACES}


def results(folder: Path, script: dict[str, Says], label: str, traces: int = 24) -> Path:
    """A folder with a critic's results on the first so many traces."""
    one = candidate(Scripted(script, identity=label), label)
    run.run(one, "champ", TRACES[:traces], len(TRACES), folder, lambda done: None)
    return folder


@pytest.fixture
def report(tmp_path: Path) -> Report:
    folders = [
        results(tmp_path / "poor", POOR, "poor"),
        results(tmp_path / "good", GOOD, "good"),
        results(tmp_path / "part", GOOD, "good", traces=8),
    ]
    return page.read(folders, COMMAND)


class Parsed(HTMLParser):
    """Counts open tags and collects what stands in cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Opens."""
        self.depth += tag not in {"meta", "br", "link"}

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Opens and closes."""

    def handle_endtag(self, tag: str) -> None:
        """Closes."""
        self.depth -= 1


def first(report: Report) -> Group:
    return tables.groups(report.results)[0]


def test_critics_stand_side_by_side_only_on_the_same_traces(report: Report) -> None:
    """From the highest F1, with the controls below: 1, then nothing; guessing has a quarter."""
    whole, part = tables.groups(report.results)
    assert [row.label for row in whole.critics] == ["good", "poor"]
    assert [row.label for row in part.critics] == ["good"]
    assert [row.label for row in whole.rows][2:] == [
        "control: guesses evenly",
        "control: always says step 1",
        "control: always says all right",
    ]
    assert (whole.title, part.title) == ("champ, all 24 traces", "champ, 8 of 24 traces")


def test_the_headline_says_who_is_above_guessing(report: Report) -> None:
    said = tables.headline(first(report))
    assert said[0].startswith("F1 on champ, all 24 traces: good 100.0")
    assert said[1].startswith("Above guessing evenly, which has 25.0")
    assert said[1].endswith("on these traces: good.")
    assert said[2].startswith("Not shown to be above") and said[2].endswith(": poor.")


def test_an_interval_that_holds_chance_is_not_above_it() -> None:
    found: Figure = {"value": 0.5, "low": 0.2, "high": 0.8, "problems": 4, "traces": 8}
    assert tables._above(found, 0.1)
    assert not tables._above(found, 0.2)
    assert not tables._above({**found, "low": None}, 0.1)
    assert not tables._above(None, 0.0)


def test_the_files_say_the_same(report: Report, tmp_path: Path) -> None:
    out = tmp_path / "report"
    page.write(report, out)
    assert sorted(path.name for path in out.iterdir()) == [
        *("index.html", "report.md", "results.json", "scores.csv"),
    ]
    text = (out / "index.html").read_text()
    said = (out / "report.md").read_text()
    kept = json.loads((out / "results.json").read_text())
    assert kept["command"] == COMMAND and len(kept["results"]) == 3
    assert Parsed(text).depth == 0 and "http://" not in text.replace("http://www.w3.org", "")
    for row in first(report).rows:
        assert row.label in text and row.label in said
        f1 = row.scores["f1"]
        assert f1 is not None and wording.percent(f1["value"]) in said
    for expected in (COMMAND, "results.json", "By author, by category"):
        assert expected in text
    for expected in (COMMAND, "12 with an error and 12 without, on 12 problems", "wit = 3"):
        assert expected in said
    assert "The traces were chosen by a hash" in text and "comparison.json" not in text


def test_provenance_is_that_of_the_calls_that_asked(report: Report) -> None:
    call = report.results[0]["asked"][0]
    assert isinstance(call, dict) and isinstance(call["hardware"], dict)
    text = page.markdown(report)
    assert str(call["started"])[:10] in text
    assert str(call["hardware"]["cpu"]) in text
    assert str(call["git"]) in text


def test_equal_results_give_equal_bytes(report: Report) -> None:
    again = Report(json.loads(json.dumps(report.results)), COMMAND)
    assert page.html(again) == page.html(report)
    assert page.markdown(again) == page.markdown(report)


def test_the_csv_has_every_score(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(page.scores_csv(report))))
    found = {
        (row["fingerprint"], row["critic"], row["part"], row["name"], row["metric"]): row
        for row in rows
    }
    assert len(found) == len(rows)
    group = first(report)
    by_b = found[group.data["fingerprint"], "good", "author", "B", "located"]
    assert (float(by_b["value"]), by_b["problems"], by_b["traces"]) == (1.0, "6", "6")
    unreadable = found[group.data["fingerprint"], "poor", "all", "", "unreadable"]
    assert float(unreadable["value"]) == 1.0
    assert (group.data["fingerprint"], "poor", "all", "", "detection_f1") in found


def test_tables_by_part_have_a_row_for_each_part_and_critic(report: Report) -> None:
    table = tables.by_author(first(report))
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        ("A", "good"),
        ("A", "poor"),
        ("B", "good"),
        ("B", "poor"),
    ]
    assert [cell.text for cell in table.rows[0]][-2:] == ["6", "6"]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_critics_of_the_same_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    one = results(tmp_path / "with", GOOD, "SmolLM2")
    other = results(tmp_path / "without", POOR, "SmolLM2")
    labels = [row.label for row in first(page.read([one, other], COMMAND)).critics]
    assert labels == ["SmolLM2 (with)", "SmolLM2 (without)"]


def test_traces_of_one_kind_have_no_f1_and_say_so(tmp_path: Path) -> None:
    one = candidate(Scripted(GOOD), "good")
    right = [trace for trace in TRACES if trace.first_wrong is None]
    run.run(one, "champ", right, len(TRACES), tmp_path, lambda done: None)
    found = page.read([tmp_path], COMMAND)
    assert "so there is no F1" in page.markdown(found)
    assert Parsed(page.html(found)).depth == 0


def test_what_holds_no_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no results\.json"):
        page.read([tmp_path], COMMAND)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match="no result of the critic benchmark"):
        page.read([tmp_path], COMMAND)


def test_a_terminal_shows_the_leaderboard_and_what_came_out(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    page.print_results(report)
    said = capsys.readouterr().out
    assert "good" in said and "Not shown to be above" in said
