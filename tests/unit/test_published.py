"""The figures of papers: every one has a source, a possible value and a place of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import pytest

from sdbench.config import project_folder
from sdbench.rundir import Row, read_json

STUDY = "2606.11173"
RANGES = {"percent": (0.0, 100.0), "points": (-100.0, 100.0), "tokens": (1.0, 2048.0)}
KEY = ("arxiv", "method", "model", "data", "metric", "k", "update", "source")
TEXTS = ("arxiv", "method", "model", "data", "metric", "unit", "checkpoint", "source")
FIELDS = {*KEY, *TEXTS, "value", "uncertainty", "note"}
# Not "unknown": what is not stated is null, or says in words that it is not stated.
PLACEHOLDER = re.compile(
    r"\b(?:todo|tbd|fixme|xxx|unknown|n/?a|none|placeholder)\b|\?\?|^-+$", re.I
)

PUBLISHED = read_json(project_folder("baselines") / "published.json")
ROWS = cast("list[Row]", PUBLISHED["rows"])
SOURCES = cast("dict[str, Row]", PUBLISHED["sources"])
PAPERS = cast("dict[str, Row]", PUBLISHED["papers"])


def named(row: Row) -> str:
    return f"{row['arxiv']}-{row['method']}-{row['data']}-{row['metric']}-{row['update']}"


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_figure_has_a_paper_a_source_and_a_possible_value(row: Row) -> None:
    assert set(row) == FIELDS
    assert all(isinstance(row[name], str) and str(row[name]).strip() for name in TEXTS)
    assert row["arxiv"] in PAPERS
    assert row["source"] in SOURCES
    low, high = RANGES[str(row["unit"])]
    assert isinstance(row["value"], float) and low <= row["value"] <= high
    for name in ("k", "update"):
        assert row[name] is None or (type(row[name]) is int and cast(int, row[name]) >= 0)
    assert row["k"] is not None or "@k" not in str(row["metric"])
    assert (row["update"] == 0) == (row["checkpoint"] == "untrained")
    assert row["uncertainty"] is None or re.search(r"\d", str(row["uncertainty"]))


def test_no_figure_is_given_twice_from_one_source() -> None:
    keys = [tuple(row[name] for name in KEY) for row in ROWS]
    assert len(keys) == len(set(keys))


def test_papers_and_sources_are_described_and_used() -> None:
    for arxiv, paper in PAPERS.items():
        assert re.fullmatch(r"\d{4}\.\d{5}", arxiv)
        assert paper["title"] and paper["authors"]
    for source in SOURCES.values():
        assert set(source) == {"first_hand", "read"}
        assert isinstance(source["first_hand"], bool)
        assert re.search(r"https?://|\d{4}\.\d{5}", str(source["read"]))
    assert {row["source"] for row in ROWS} == set(SOURCES)
    assert {row["arxiv"] for row in ROWS} == set(PAPERS)


def test_nothing_is_a_placeholder() -> None:
    assert [text for text in texts(PUBLISHED) if PLACEHOLDER.search(text)] == []


def test_the_studys_table_is_whole_and_agrees_with_its_abstract() -> None:
    """35.83 - 19.72 = 16.11 and 35.83 - 30.56 = 5.27."""
    table = {
        (row["method"], row["metric"]): cast(float, row["value"])
        for row in ROWS
        if row["arxiv"] == STUDY
    }
    methods = ("GRPO", "RefSol", "StepAlignFB")
    metrics = ("Pass@k", "Maj@k", "Avg@k", "mean length")
    assert {(method, metric) for method in methods for metric in metrics} <= set(table)
    for other, gain in (("GRPO", 16.11), ("RefSol", 5.27)):
        assert table["StepAlignFB", "Avg@k"] - table[other, "Avg@k"] == pytest.approx(gain)
        assert table[f"StepAlignFB minus {other}", "Avg@k difference"] == gain


def test_sdpos_means_agree_with_its_table() -> None:
    """Its text gives 68.8 and 64.1; its table has five tasks on two models."""
    for method, mean in (("SDPO", 68.8), ("GRPO", 64.1)):
        cells = [
            cast(float, row["value"])
            for row in ROWS
            if row["arxiv"] == "2601.20802" and row["method"] == method and row["k"] == 16
        ]
        cells.remove(mean)
        assert len(cells) == 10
        assert sum(cells) / 10 == pytest.approx(mean, abs=0.05)
