"""Score against cost: the selected and the last checkpoint of each condition, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sdbench.report.charts.svg import (
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

LEFT, TOP, BOTTOM = 44.0, 16.0, 46.0


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
        parts.append(text(LEFT + 6, y(start) - 6, "untrained", "tick"))
    parts += [_point(one, x, y, (LEFT + right) / 2) for one in reached]
    return Drawing(join(parts), width, TOP + plot + BOTTOM)


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


def _point(one: Reached, x: Scale, y: Scale, middle: float) -> Markup:
    selected, last = (x(math.log10(cost)) for cost in one.cost)
    above, below = y(one.score[0]), y(one.score[1])
    late = selected > middle
    return join(
        [
            line(selected, y(one.low), selected, y(one.high), f"thick {one.style.css}"),
            line(selected, above, last, below, f"thin {one.style.css}"),
            marker(one.style, last, below, 5.5, hollow=True),
            marker(one.style, selected, above, 6.5),
            text(selected + (-12 if late else 12), above - 9, one.label, "name halo", "end" if late else "start"),
        ]
    )
