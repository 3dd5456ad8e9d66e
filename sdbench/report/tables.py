"""Tables: stated once, rendered as HTML and as Markdown, so that both say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sdbench.report.pages import fill


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Its head.
        about: What it holds, if the head does not say it all.
        numeric: Set flush right in figures of equal width.
    """

    title: str
    about: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Attributes:
        text: What it says.
        note: A second, smaller line, such as an interval.
        sort: What sorting compares; None for the text.
        key: A condition's marker, to stand before the text.
    """

    text: str
    note: str = ""
    sort: float | None = None
    key: Markup | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row heads the row.

    Attributes:
        caption: What it shows.
        columns: Its columns.
        rows: As many cells each as there are columns.
        sortable: Whether a click on a head sorts by that column.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False

    def html(self) -> Markup:
        """As HTML."""
        return fill("table.html", table=self)

    def markdown(self) -> str:
        """As a Markdown table under its caption."""
        heads = [column.title for column in self.columns]
        rule = ["---:" if column.numeric else ":---" for column in self.columns]
        body = [[f"{c.text} {c.note}".strip() for c in row] for row in self.rows]
        lines = [_line(heads), _line(rule, escaped=False), *map(_line, body)]
        return f"*{escape(self.caption)}*\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str], *, escaped: bool = True) -> str:
    return "| " + " | ".join(escape(cell) if escaped else cell for cell in cells) + " |"


def how_to_read(about: str) -> str:
    """The paragraph of Markdown that opens a section."""
    return f"**How to read this.** {about}"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_<>|#~$&])", r"\\\1", text.replace("\n", " "))
