"""Score against cost: the selected and the last checkpoint of each condition, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sdbench.report.charts.svg import (
    CHARACTER_WIDTH,
    NARROW,
    Axis,
    Drawing,
    Scale,
    Style,
    join,
    line,
    marker,
    text,
)

LEFT, TOP, BOTTOM, APART = 48.0, 26.0, 46.0, 9.0


@dataclass(frozen=True, slots=True)
class Reached:
    """What a condition reached at what cost.

    Attributes:
        label: Its name.
        style: Its look.
        cost: At the selected and at the last checkpoint.
        score: At the selected and at the last checkpoint.
        low: Lower end of the interval at the selected checkpoint.
        high: Its upper end.
    """

    label: str
    style: Style
    cost: tuple[float, float]
    score: tuple[float, float]
    low: float
    high: float


def scatter(
    reached: Sequence[Reached], values: Axis, label: str, start: float | None, width: float
) -> Drawing:
    """Draws one point for each condition with its interval, and the way on to its last checkpoint.

    Args:
        reached: What to draw.
        values: The value axis.
        label: What the cost axis measures.
        start: A level to mark: the untrained model's.
        width: Of the drawing.
    """
    narrow = width <= NARROW
    plot = 260.0 if narrow else 300.0
    y = Scale(values.low, values.high, TOP + plot, TOP)
    right = width - (14 if narrow else 24)
    costs = [math.log10(cost) for one in reached for cost in one.cost]
    x = Scale(min(costs) - 0.22, max(costs) + 0.22, LEFT, right)
    parts = [_grid(x, y, values, label)]
    if start is not None:
        parts.append(line(LEFT, y(start), right, y(start), "uniform"))
        parts.append(text(LEFT + 6, y(start) - 6, "untrained", "tick halo"))
    places = [
        _place(one, x, y, APART * (i - (len(reached) - 1) / 2)) for i, one in enumerate(reached)
    ]
    parts += [part for place in places for part in _point(place)]
    parts += _labels(places, width)
    return Drawing(join(parts), width, TOP + plot + BOTTOM)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a condition's marks lie; those at equal cost are set apart by a few pixels."""

    one: Reached
    selected: tuple[float, float]
    last: tuple[float, float]
    low: float
    high: float


def _place(one: Reached, x: Scale, y: Scale, shift: float) -> _Place:
    (selected, last), (above, below) = one.cost, one.score
    return _Place(
        one,
        (x(math.log10(selected)) + shift, y(above)),
        (x(math.log10(last)) + shift, y(below)),
        y(one.low),
        y(one.high),
    )


def _grid(x: Scale, y: Scale, values: Axis, label: str) -> Markup:
    parts = [line(x.start, y(tick), x.end, y(tick), "grid") for tick in values.ticks]
    parts += [text(x.start - 8, y(t) + 4, values.text(t), "tick", "end") for t in values.ticks]
    for cost in _round_costs(x):
        place = x(math.log10(cost))
        parts.append(line(place, y.start, place, y.start + 4, "axis"))
        parts.append(text(place, y.start + 18, f"{cost:,}", "tick", "middle"))
    parts.append(text((x.start + x.end) / 2, y.start + 37, label, "label", "middle"))
    return join(parts)


def _round_costs(x: Scale) -> list[int]:
    low, high = math.floor(x.low), math.ceil(x.high)
    steps = (1, 2, 5) if x.high - x.low < 2.5 else (1,)
    every = [round(step * 10.0**power) for power in range(low, high + 1) for step in steps]
    return [cost for cost in every if cost > 0 and x.low <= math.log10(cost) <= x.high]


def _point(place: _Place) -> list[Markup]:
    style, (x, y) = place.one.style, place.selected
    return [
        line(x, place.low, x, place.high, f"thick {style.css}"),
        line(x, y, *place.last, f"thin {style.css}"),
        marker(style, *place.last, 5.5, hollow=True),
        marker(style, x, y, 6.5),
    ]


def _labels(places: Sequence[_Place], width: float) -> list[Markup]:
    """Names above the intervals, moved up until none covers another."""
    parts, taken = [], list[tuple[float, float, float]]()
    for place in sorted(places, key=lambda one: one.high, reverse=True):
        half = CHARACTER_WIDTH * len(place.one.label) / 2
        x = min(max(place.selected[0], LEFT + half), width - half)
        y = place.high - 7
        while any(abs(x - other) < half + reach and abs(y - at) < 15 for other, at, reach in taken):
            y -= 15
        taken.append((x, y, half))
        parts.append(text(x, y, place.one.label, "name halo", "middle"))
    return parts
