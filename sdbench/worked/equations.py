r"""Equations in prose: found, read as exact fractions, and checked.

In: a sentence such as "So he paid $820000 x 2/100 = $16400 for the fees." Out: the equation with its
values and whether it is true. Units, currency, percent signs and LaTeX's dress are taken off:
"12 pounds * 2 - 9 = 15 pounds/alpaca" is 12 * 2 - 9 = 15.

What may be read in more than one way is true if one of them is: a percent sign as a hundredth or as a
unit, `12 / 1/2` by a half or from left to right, `5 * 3 = 15 + 2 = 17` as a running calculation. A
result with decimals may be rounded or cut off after its last digit. Never read as an equation: one
with a variable, with numbers in words (5 million), or without any operation (1 hour = 60 minutes).
So what is called false is false; what is called nothing may be either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from operator import add, mul, sub, truediv
from typing import Literal, cast

Kind = Literal["number", "operator", "open", "close", "equals", "percent", "word", "stop", "other"]

# Words between an operand and the operator that follows it, such as "pair of gloves".
MOST_UNIT_WORDS = 6
# What is larger is a solver that goes round in circles, and is not read.
MOST_OPERANDS, MOST_NESTED, MOST_DIGITS = 100, 20, 40

_DRESS = (
    (re.compile(r"<<[^<>]*>>|\*\*|\\left|\\right|\\[!,;: ]"), " "),
    (re.compile(r"\\(?:text|mathrm|mbox|boxed)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (
        re.compile(r"\\times|\\cdot|[\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}\N{ASTERISK OPERATOR}]"),
        "*",
    ),
    (re.compile(r"\\div|÷"), " / "),
    (re.compile(r"\\approx|≅"), "≈"),
    (re.compile(r"[\N{MINUS SIGN}\N{EN DASH}]"), "-"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?\$|[€£¥]|\\[()\[\]]"), " "),
)
_TOKEN = re.compile(
    r"""
    (?P<word>\d+(?:st|nd|rd|th)\b|[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}\-][^\W\d_]+)*)
    |(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|(?<!\d)\.\d+)
    |(?P<other>->|=>|[<>!]=)
    |(?P<equals>==?|≈)
    |(?P<operator>[-+*/])
    |(?P<open>\()|(?P<close>\))|(?P<percent>%)
    |(?P<stop>[.,;:!?\n"'|\N{RIGHT SINGLE QUOTATION MARK}\N{EM DASH}\N{BULLET}])
    |(?P<blank>[^\S\n]+)
    |.
    """,
    re.VERBOSE,
)
# Words that change the number they follow, so that it cannot be read without them.
_SCALES = frozenset({"hundred", "thousand", "million", "billion", "cent", "cents"})
_SPOKEN = {"plus": "+", "minus": "-", "times": "*", "x": "*", "of": "*"}


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an equation.

    Attributes:
        values: What it may be, by all readings.
        operands: The numbers written in it, likewise.
        parts: What its operations give, one by one, the whole included; empty for a single number.
        first: Its first number, likewise.
        number: The number as written, if it is a single one, else None.
        decimals: How many that number has.
        percent: Whether a percent sign follows it.
    """

    values: frozenset[Fraction]
    operands: frozenset[Fraction]
    parts: frozenset[Fraction]
    first: frozenset[Fraction]
    number: Fraction | None
    decimals: int
    percent: bool


@dataclass(frozen=True, slots=True)
class Equation:
    """A chain of sides, `a = b = c`.

    Attributes:
        sides: At least two; the first is an operation.
        true: Whether each is equal to the next.
    """

    sides: tuple[Side, ...]
    true: bool

    @property
    def results(self) -> frozenset[Fraction]:
        """What the last side may be."""
        return self.sides[-1].values

    @property
    def operands(self) -> frozenset[Fraction]:
        """The numbers that its operations take."""
        return _union(side.operands for side in self.sides if side.number is None)

    @property
    def values(self) -> frozenset[Fraction]:
        """All that it comes by: its sides, and what the operations in them give."""
        return _union(side.values | side.parts for side in self.sides)


def read(text: str) -> tuple[Equation, ...]:
    """The equations of a text that can be checked, in their order; total over all texts."""
    tokens = _tokens(text)
    found: list[Equation] = []
    place = 0
    while place < len(tokens):
        place = _chain(tokens, place, found) if _begins(tokens, place) else place + 1
    return tuple(found)


def numbers(text: str) -> frozenset[Fraction]:
    """Every number written in a text; a percentage as hundredths too."""
    tokens = _tokens(text)
    found = {token.value for token in tokens if token.kind == "number"}
    pairs = pairwise(tokens)
    return frozenset(found | {a.value / 100 for a, b in pairs if b.kind == "percent"})


@dataclass(frozen=True, slots=True)
class _Token:
    """`tight` follows what is before it without a blank."""

    kind: Kind
    text: str
    tight: bool
    value: Fraction = Fraction(0)


_END = _Token("stop", "", tight=False)


def _tokens(text: str) -> list[_Token]:
    for pattern, plain in _DRESS:
        text = pattern.sub(plain, text)
    raw: list[_Token] = []
    tight = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind != "blank":
            raw.append(_token(kind, match[0], tight=tight))
        tight = kind != "blank"
    return list(_settled(raw))


def _token(kind: str, text: str, *, tight: bool) -> _Token:
    word = text.lower()
    if kind == "number" and len(text) > MOST_DIGITS:
        return _Token("other", text, tight)
    if kind == "number":
        return _Token("number", text, tight, Fraction(text.replace(",", "")))
    if kind == "word" and word == "equals":
        return _Token("equals", "=", tight)
    if kind == "word" and word == "half":
        return _Token("number", text, tight, Fraction(1, 2))
    if kind == "word" and (word in _SCALES or (len(word) == 1 and word not in "aix")):
        return _Token("other", text, tight)
    return _Token(cast(Kind, kind), text, tight)


def _settled(raw: Sequence[_Token]) -> Iterator[_Token]:
    """Tells operators from dashes, list marks, slashes within units, words and variables."""
    before = _END
    for index, token in enumerate(raw):
        after, next_but_one = [*raw[index + 1 : index + 3], _END, _END][:2]
        operand = after.kind in ("number", "open") or (
            after.text == "-" and next_but_one.kind == "number"
        )
        before = _settle(token, before, after, operand=operand)
        yield before


def _settle(token: _Token, before: _Token, after: _Token, *, operand: bool) -> _Token:
    kind, word = token.kind, token.text.lower()
    ended = before.kind in ("number", "percent", "close")
    if kind == "word" and word in _SPOKEN:
        if operand and (ended or (word == "x" and before.kind == "word")):
            return replace(token, kind="operator", text=_SPOKEN[word])
        return replace(token, kind="other") if word == "x" else token
    if word == "half" and after.kind != "operator" and after.text != "of":
        return replace(token, kind="word")
    if kind != "operator":
        return token
    if not operand:
        unit = word == "/" and after.kind == "word"
        dash = word == "-" and after.kind != "other"
        return replace(token, kind="word" if unit else "stop" if dash else "other")
    if ended or before.kind in ("word", "other") or (word == "-" and after.tight):
        return token
    return replace(token, kind="stop")  # The mark of a list's item.


def _begins(tokens: Sequence[_Token], place: int) -> bool:
    """Whether an expression may begin here, and is not the rest of one that cannot be read."""
    token, before = tokens[place], tokens[place - 1] if place else _END
    if token.kind == "operator":
        return token.text == "-" and before.kind in ("stop", "open", "equals")
    return token.kind in ("number", "open") and before.kind not in ("operator", "other", "close")


def _chain(tokens: Sequence[_Token], start: int, found: list[Equation]) -> int:
    """Reads `a = b = c` from here into `found`; returns the place to go on from."""
    sides: list[Side] = []
    signs: list[str] = []
    place = start
    while True:
        parser = _Parser(tokens, place)
        side = _side(parser.expression())
        place = parser.place
        following = tokens[place] if place < len(tokens) else _END
        if side is None or following.kind in ("operator", "other"):
            break  # There is nothing, or it goes on with what cannot be read.
        sides.append(side)
        if following.kind != "equals":
            break
        signs.append(following.text)
        place += 1
    # A number at the very left may be a label or another unit's: "1 hour = 2 * 30 minutes".
    while sides and sides[0].number is not None:
        del sides[0], signs[:1]
    if len(sides) > 1:
        pairs = zip(sides, sides[1:], signs, strict=False)  # The last sign may lead to nothing.
        found.append(Equation(tuple(sides), all(_equal(*pair) for pair in pairs)))
    return max(place, start + 1)


def _equal(left: Side, right: Side, sign: str) -> bool:
    if right.number is None:
        return not left.values.isdisjoint(right.values | right.first)
    if left.number is not None:
        return True  # Two numbers in a row are a change of unit.
    loose = right.decimals > 0 or sign == "≈"
    slack = Fraction(1, 10**right.decimals) if loose else Fraction(0)
    readings = left.values | ({100 * value for value in left.values} if right.percent else set())
    return any(value == right.number or abs(value - right.number) < slack for value in readings)


@dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    decimals: int = 0
    percent: bool = False


@dataclass(frozen=True, slots=True)
class _Operation:
    """`fraction` is written without blanks, as 1/2, and binds more tightly than other divisions."""

    operator: str
    left: _Number | _Operation
    right: _Number | _Operation
    fraction: bool = False


_Node = _Number | _Operation


class _Parser:
    """Reads one expression from a place on; `place` is then one past what was read."""

    def __init__(self, tokens: Sequence[_Token], place: int) -> None:
        self._tokens, self.place = tokens, place
        self._depth = self._operands = 0

    def expression(self) -> _Node | None:
        return self._joined("+-", self._term)

    def _term(self) -> _Node | None:
        return self._joined("*/", self._factor)

    def _joined(self, operators: str, operand: Callable[[], _Node | None]) -> _Node | None:
        left = operand()
        while left is not None:
            mark, token = self.place, self._at(self.place)
            if token.kind == "operator" and token.text in operators:
                operator = token.text
                self.place += 1
            elif "*" in operators and token.kind == "open" and token.tight:
                operator = "*"
            else:
                break
            right = operand()
            if right is None:
                self.place = mark
                break
            left = _Operation(operator, left, right)
        return left

    def _factor(self) -> _Node | None:
        token = self._at(self.place)
        if token.kind == "operator" and token.text == "-":
            self.place += 1
            inner = self._factor()
            return None if inner is None else _Operation("*", _Number(Fraction(-1)), inner)
        found = self._group() if token.kind == "open" else self._number()
        if found is not None:
            self._skip_units()
        return found

    def _group(self) -> _Node | None:
        if self._depth == MOST_NESTED:
            return None
        mark = self.place
        self.place += 1
        self._depth += 1
        inner = self.expression()
        self._depth -= 1
        if inner is None or self._at(self.place).kind != "close":
            self.place = mark
            return None
        self.place += 1
        return inner

    def _number(self) -> _Node | None:
        token = self._at(self.place)
        if token.kind != "number" or self._operands == MOST_OPERANDS:
            return None
        self._operands += 1
        fraction = self._fraction(self.place)
        if fraction is not None:
            self.place += 3
            return fraction
        self.place += 1
        decimals = len(token.text.partition(".")[2])
        part = self._fraction(self.place)
        if part is not None and decimals == 0 and not self._at(self.place).tight:
            value = _value(part, percent=False, fractions=True)
            if value is not None and value < 1:  # A mixed number, 2 1/2.
                self.place += 3
                return _Number(token.value + value)
        percent = self._at(self.place).kind == "percent"
        self.place += percent
        return _Number(token.value, decimals, percent)

    def _fraction(self, place: int) -> _Operation | None:
        above, slash, below = (self._at(place + offset) for offset in range(3))
        written = (above.kind, slash.text, below.kind) == ("number", "/", "number")
        if not written or not (slash.tight and below.tight):
            return None
        return _Operation("/", _Number(above.value), _Number(below.value), fraction=True)

    def _skip_units(self) -> None:
        """Goes over words, bare or in parentheses, if an operator or the like follows them."""
        place, words, inside = self.place, 0, False
        while words <= MOST_UNIT_WORDS:
            kind = self._at(place).kind
            if kind in ("word", "percent"):
                words += 1
            elif kind == "open" and not inside and self._at(place + 1).kind == "word":
                inside = True
            elif kind == "close" and inside:
                inside = False
            else:
                ends = kind in ("operator", "equals") or (kind == "close" and self._depth > 0)
                self.place = place if ends and not inside else self.place
                return
            place += 1

    def _at(self, place: int) -> _Token:
        return self._tokens[place] if place < len(self._tokens) else _END


def _side(node: _Node | None) -> Side | None:
    """What is known of an expression; None if it is none, or divides by zero."""
    values = frozenset() if node is None else _readings(node)
    if node is None or not values:
        return None
    inner = list(_nodes(node))
    leaves = [one for one in inner if isinstance(one, _Number)]
    single = node if isinstance(node, _Number) else None
    return Side(
        values=values,
        operands=_union(map(_readings, leaves)),
        parts=_union(_readings(one) for one in inner if isinstance(one, _Operation)),
        first=_readings(leaves[0]),
        number=None if single is None else single.value,
        decimals=0 if single is None else single.decimals,
        percent=single is not None and single.percent,
    )


def _nodes(node: _Node) -> Iterator[_Node]:
    yield node
    if isinstance(node, _Operation):
        yield from _nodes(node.left)
        yield from _nodes(node.right)


def _readings(node: _Node) -> frozenset[Fraction]:
    readings = (_value(node, percent=p, fractions=f) for p in (True, False) for f in (True, False))
    return frozenset(value for value in readings if value is not None)


def _value(node: _Node, *, percent: bool, fractions: bool) -> Fraction | None:
    """The value by one reading.

    Args:
        node: What is evaluated.
        percent: Whether a percent sign means hundredths; else it is a unit.
        fractions: Whether 12 / 1/2 divides by a half; else from left to right.

    Returns:
        None for a division by zero.
    """
    if isinstance(node, _Number):
        return node.value / 100 if percent and node.percent else node.value
    below = node.right
    if node.operator == "/" and isinstance(below, _Operation) and below.fraction and not fractions:
        node = _Operation("/", _Operation("/", node.left, below.left), below.right)
    left = _value(node.left, percent=percent, fractions=fractions)
    right = _value(node.right, percent=percent, fractions=fractions)
    if left is None or right is None or (node.operator == "/" and right == 0):
        return None
    return _OPERATIONS[node.operator](left, right)


_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
}


def _union(sets: Iterable[frozenset[Fraction]]) -> frozenset[Fraction]:
    return frozenset[Fraction]().union(*sets)
