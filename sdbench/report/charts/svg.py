"""What figures are made of: elements, scales, markers, and the frame with title and description.

Every figure is drawn twice, for wide and for narrow screens, since text inside an SVG would shrink
with it; the stylesheet shows one of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from sdbench.report.schema import Comparison

WIDE, NARROW = 1000.0, 358.0
PALETTE = 8
SHAPES = ("circle", "square", "triangle", "diamond", "wedge", "plus", "hexagon", "bar")
CHARACTER_WIDTH = 7.9


@dataclass(frozen=True, slots=True)
class Style:
    """A condition's look: a colour class of the stylesheet and a shape of its own."""

    css: str
    shape: str


NEUTRAL = Style("ink", "circle")
BASE = Style("c-base", "ring")


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from data to pixels.

    Attributes:
        low: Data at `start`.
        high: Data at `end`.
        start: Pixels.
        end: Pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value; values outside are drawn at the edge."""
        inside = min(max(value, min(self.low, self.high)), max(self.low, self.high))
        share = (inside - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Axis:
    """A value axis with round ticks that hold all the data.

    Attributes:
        ticks: Where ticks stand.
        text: How a tick is written.
        label: What the axis measures.
    """

    ticks: tuple[float, ...]
    text: Callable[[float], str]
    label: str

    @property
    def low(self) -> float:
        """The first tick."""
        return self.ticks[0]

    @property
    def high(self) -> float:
        """The last tick."""
        return self.ticks[-1]


def axis(values: Iterable[float], text: Callable[[float], str], label: str, count: int = 6) -> Axis:
    """An axis over these values with about so many ticks at 1, 2, 2.5 or 5 times a power of ten."""
    found = list(values)
    low, high = min(found), max(found)
    if low == high:
        low, high = low - 0.05, high + 0.05
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 10) for index in range(first, last + 1))
    return Axis(ticks, text, label)


def style_of(comparison: Comparison, condition: str) -> Style:
    """The look of a condition: by its place among the names, so it is the same in every figure."""
    if condition == "base":
        return BASE
    names = sorted(r["condition"] for r in comparison["leaderboard"] if r["condition"] != "base")
    return style_at(names.index(condition))


def style_at(place: int) -> Style:
    """The look of whatever has this place, from 0, among the names of its figure."""
    return Style(f"c-{place % PALETTE}", SHAPES[place % len(SHAPES)])


def element(name: str, content: Markup | str = "", **attributes: object) -> Markup:
    """An SVG element; `_` in attribute names becomes `-`, `css` is the class, floats are rounded."""
    written = "".join(
        f' {("class" if key == "css" else key.replace("_", "-"))}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    body = escape(content)
    return Markup(f"<{name}{written}>{body}</{name}>" if body else f"<{name}{written}/>")


def join(parts: Iterable[Markup | str]) -> Markup:
    """Parts one after the other, escaped unless they are markup."""
    return Markup("").join(parts)


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> Markup:
    """Text with its baseline at y."""
    return element("text", content, x=x, y=y, css=css or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, css=css)


def path(points: Iterable[tuple[float, float]], css: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    steps = " L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", css=css)


def marker(
    style: Style, x: float, y: float, radius: float = 6, *, hollow: bool = False, tip: str = ""
) -> Markup:
    """A condition's marker, with the page's colour around it so that it stands off lines."""
    css = f"marker {style.css} {'hollow' if hollow or style.shape == 'ring' else 'solid'}"
    inner = element("title", tip) if tip else Markup("")
    if style.shape in ("circle", "ring"):
        return element("circle", inner, cx=x, cy=y, r=radius, css=css)
    outline = " ".join(
        f"{_plain(x + radius * a)},{_plain(y + radius * b)}" for a, b in _corners(style)
    )
    return element("polygon", inner, points=outline, css=css)


def _corners(style: Style) -> list[tuple[float, float]]:
    plus = [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)]
    return {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "wedge": [(0, 1.15), (1.1, -0.85), (-1.1, -0.85)],
        "plus": [*plus, *((-a, -b) for a, b in plus)],
        "hexagon": [
            (1.1, 0),
            (0.55, 0.95),
            (-0.55, 0.95),
            (-1.1, 0),
            (-0.55, -0.95),
            (0.55, -0.95),
        ],
        "bar": [(-0.55, -1.2), (0.55, -1.2), (0.55, 1.2), (-0.55, 1.2)],
    }[style.shape]


def key(comparison: Comparison, condition: str) -> Markup:
    """A condition's marker to stand in running text or in a table."""
    return key_in(style_of(comparison, condition))


def key_in(style: Style) -> Markup:
    """A marker to stand in running text or in a table."""
    drawn = marker(style, 8, 8, 5)
    return element(
        "svg", drawn, css="key", viewBox="0 0 16 16", width=16, height=16, aria_hidden="true"
    )


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure's content at one width."""

    body: Markup
    width: float
    height: float


def figure(
    name: str,
    title: str,
    description: str,
    draw: Callable[[float], Drawing],
    legend: Markup | str = "",
) -> Markup:
    """A figure in both widths, with what a screen reader says in place of it.

    Args:
        name: Unique on the page.
        title: What it shows; also its caption.
        description: What there is to see, in words.
        draw: Draws at a width.
        legend: Stands under the caption.
    """
    drawings = [
        _framed(f"{name}-{size}", size, title, description, draw(width))
        for size, width in (("wide", WIDE), ("narrow", NARROW))
    ]
    caption = element("figcaption", join([element("strong", title), " ", legend]))
    return element("figure", join([caption, *drawings]))


def _framed(name: str, size: str, title: str, description: str, drawing: Drawing) -> Markup:
    heading = element("title", title, id=f"{name}-title")
    words = element("desc", description, id=f"{name}-desc")
    return element(
        "svg",
        join([heading, words, drawing.body]),
        css=size,
        role="img",
        viewBox=f"0 0 {_plain(drawing.width)} {_plain(drawing.height)}",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
