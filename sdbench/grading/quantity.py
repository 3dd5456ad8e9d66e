"""Numbers with units, read and compared exactly.

In goes an answer as `notation.spell` writes it, out comes a `Quantity`: a rational number, how many
decimals it was written with, and its unit. Nothing is rounded and no float is made, so numbers that
differ in their last digit differ. Numbers of more than 300 digits, or with exponents beyond 300,
are not read here; `exact` compares long integers as text.

When two quantities are equal:

- A side without a unit takes the other's. Two units must measure the same, and are converted.
- A percentage is its number over 100. To a bare number above 1 it may also be equal as it stands:
  "73" and "73%" both answer "what percentage".
- A decimal and an exact value, or two decimals of unequal length, are equal if they agree in all
  decimals of the shorter one and these are at least 6, or its digits at least 8. So 1.41421356 is
  the root of 2, and 0.333 is not one third.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from sdbench.grading import units
from sdbench.grading.units import PERCENT, Unit

_LONGEST = 300
_LONGEST_DECIMAL = 12
_ENOUGH_DECIMALS = 6
_ENOUGH_DIGITS = 8

_MONEY = re.compile(r"([+-]?)([$€£])(?=[-\d.\\])")
_SIGN_SUFFIX = re.compile(r"%|\^\\circ ?[CF]?$")
_WORD_SUFFIX = re.compile(
    r"(?:(?<=[\d)}!]) ?|(?<=\\pi) )[A-Za-z][A-Za-z./' ]*(?:\^(?:\d|\{-\d\}))?(?:/[A-Za-z. ]+(?:\^\d)?)?$"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A text parted into its number, which need not be rational, and its unit, if any."""

    number: str
    unit: Unit | None


@dataclass(frozen=True, slots=True)
class Quantity:
    """A rational number with its unit.

    Attributes:
        value: The number in its unit.
        decimals: How many it was written with; None if it is exact, as integers and fractions are.
        unit: None if it has none.
    """

    value: Fraction
    decimals: int | None
    unit: Unit | None


def read(text: str) -> Quantity | None:
    """The quantity that a spelled answer is, None if it is none."""
    return _read(text) if len(text) <= _LONGEST else None


def measured(text: str) -> Measured:
    """Parts a spelled answer such as "2 cm" or "n! ways" into its number and its unit."""
    if money := _MONEY.match(text):
        unit = units.read(money[2], attached=False)
        return Measured(money[1] + text[money.end() :].removesuffix(" dollars"), unit)
    start = max(0, len(text) - _LONGEST)
    for pattern in (_SIGN_SUFFIX, _WORD_SUFFIX):
        suffix = pattern.search(text, start)
        if suffix and suffix.start() and suffix.end() == len(text):
            said = suffix.group()
            unit = units.read(said.strip(), attached=not said.startswith(" "))
            if unit is not None:
                return Measured(text[: suffix.start()], unit)
    return Measured(text, None)


def same(gold: Quantity, answer: Quantity) -> bool:
    """Whether two quantities are equal by the rules of this module."""
    if gold.unit is None or answer.unit is None:
        return _same_with_one_unit(gold, answer)
    if not gold.unit.fits(answer.unit):
        return False
    if gold.unit.size == answer.unit.size or gold.unit.measures != answer.unit.measures:
        return agree(gold.value, gold.decimals, answer.value, answer.decimals)
    return gold.value * gold.unit.size == answer.value * answer.unit.size


def agree(a: Fraction, a_decimals: int | None, b: Fraction, b_decimals: int | None) -> bool:
    """Whether two numbers are equal, or agree in sufficiently many decimals.

    Args:
        a: A number.
        a_decimals: Decimals it was written with, None if it is exact.
        b: Another.
        b_decimals: Likewise.
    """
    if a == b:
        return True
    if a_decimals == b_decimals:
        return False
    written = ((d, n) for d, n in ((a_decimals, a), (b_decimals, b)) if d is not None)
    places, decimal = min(written)
    exact = b if (decimal, places) == (a, a_decimals) else a
    digits = len(str(abs(int(decimal * 10**places))))
    enough = digits >= _ENOUGH_DIGITS or (digits >= _ENOUGH_DECIMALS <= places)
    return places > 0 and enough and _is_cut_from(decimal, exact, Fraction(1, 10**places))


def _is_cut_from(decimal: Fraction, exact: Fraction, step: Fraction) -> bool:
    """Whether a decimal is a number rounded to its last place, or cut off after it."""
    missing = abs(exact) - abs(decimal)
    return decimal * exact > 0 and (abs(missing) <= step / 2 or 0 < missing < step)


def write(quantity: Quantity) -> str:
    """Its number in one way: an integer, a decimal if it ends within 12 places, else a fraction.

    A number that was written as a decimal stays one, whatever its places.
    """
    value = quantity.value
    unit = 10 ** max(_LONGEST_DECIMAL, quantity.decimals or 0)
    if value.denominator == 1:
        return str(value.numerator)
    if unit % value.denominator:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * (unit // value.denominator)).zfill(len(str(unit)))
    whole, rest = digits[: 1 - len(str(unit))], digits[1 - len(str(unit)) :]
    return f"{'-' if value < 0 else ''}{whole}.{rest}".rstrip("0")


@lru_cache(maxsize=8192)
def _read(text: str) -> Quantity | None:
    parted = measured(text)
    number = parted.number
    unsigned = number.removeprefix("-") if number.startswith("-") else number.removeprefix("+")
    for pattern, value_of in _READERS:
        if match := pattern.fullmatch(unsigned):
            value = value_of(match)
            if value is None:
                return None
            plain = pattern is _DECIMAL and "." in unsigned
            decimals = len(unsigned) - unsigned.index(".") - 1 if plain else None
            return Quantity(-value if number.startswith("-") else value, decimals, parted.unit)
    return None


def _same_with_one_unit(gold: Quantity, answer: Quantity) -> bool:
    if PERCENT not in (gold.unit, answer.unit):
        return agree(gold.value, gold.decimals, answer.value, answer.decimals)
    percentage, bare = (gold, answer) if gold.unit else (answer, gold)
    places = None if percentage.decimals is None else percentage.decimals + 2
    return agree(percentage.value / 100, places, bare.value, bare.decimals) or (
        abs(bare.value) > 1
        and agree(percentage.value, percentage.decimals, bare.value, bare.decimals)
    )


def _plain(match: re.Match[str]) -> Fraction:
    return Fraction(match[0])


def _quotient(match: re.Match[str]) -> Fraction | None:
    below = Fraction(match[2])
    return Fraction(match[1]) / below if below else None


def _mixed(match: re.Match[str]) -> Fraction | None:
    below = int(match[3])
    return int(match[1]) + Fraction(int(match[2]), below) if below else None


def _scientific(match: re.Match[str]) -> Fraction | None:
    exponent = int(match[2])
    return Fraction(match[1] or 1) * Fraction(10) ** exponent if abs(exponent) <= _LONGEST else None


def _recurring(match: re.Match[str]) -> Fraction:
    return _repeat(match[1], match[2], match[3])


def _trailing(match: re.Match[str]) -> Fraction | None:
    """A decimal with dots after it recurs if at least its last 3 digits say one block repeatedly."""
    repeated = _REPEATED.fullmatch(match[2])
    if repeated is None or len(repeated[2]) < 3:
        return None
    return _repeat(match[1], repeated[1], repeated[3])


def _repeat(whole: str, fixed: str, block: str) -> Fraction:
    shown = Fraction(int(whole + fixed or "0"), 10 ** len(fixed))
    return shown + Fraction(int(block), (10 ** len(block) - 1) * 10 ** len(fixed))


_D = r"(?:\d+\.?\d*|\.\d+)"
_DECIMAL = re.compile(_D)
_REPEATED = re.compile(r"(\d*?)((\d{1,6}?)\3+)")
_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Fraction | None]], ...] = (
    (_DECIMAL, _plain),
    (re.compile(rf"\\frac\{{(-?{_D})\}}\{{(-?{_D})\}}"), _quotient),
    (re.compile(rf"({_D})/({_D})"), _quotient),
    (re.compile(r"(\d+) ?\\frac\{(\d+)\}\{(\d+)\}"), _mixed),
    (re.compile(r"(\d+) (\d+)/(\d+)"), _mixed),
    (
        re.compile(rf"({_D})(?:[eE]|(?:\\times|\\cdot|\*)10\^)\{{?(-?\d{{1,4}}|\+\d{{1,4}})\}}?"),
        _scientific,
    ),
    (re.compile(r"()10\^\{?(-?\d{1,4})\}?"), _scientific),
    (re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\{(\d+)\}"), _recurring),
    (re.compile(r"(\d*)\.(\d*)\((\d+)\)"), _recurring),
    (re.compile(r"(\d*)\.(\d{3,40})\\ldots"), _trailing),
)
