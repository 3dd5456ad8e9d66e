"""Units of answers: what they measure and how large they are.

In goes the text that follows a number, such as "cm^2", "square centimeters", "km/h" or "apples";
out comes a `Unit` or None. A word that is no known unit is a unit of its own, so apples are neither
pears nor metres. A single letter is a unit only where a blank parts it from the number: "5 m" is a
length, "5m" a product.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_LONGEST = 60

# What is measured: the names of each unit, singular, and its size in the base unit.
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "mm millimeter millimetre": "1/1000",
        "cm centimeter centimetre": "1/100",
        "dm decimeter decimetre": "1/10",
        "m meter metre": "1",
        "km kilometer kilometre": "1000",
        "in inch": "0.0254",
        "ft foot feet": "0.3048",
        "yd yard": "0.9144",
        "mi mile": "1609.344",
    },
    "time": {
        "ms millisecond": "1/1000",
        "s sec second": "1",
        "min minute": "60",
        "h hr hour": "3600",
        "day": "86400",
        "week": "604800",
    },
    "months": {"month": "1", "yr year": "12"},
    "mass": {
        "mg milligram": "1/1000",
        "g gram": "1",
        "kg kilogram": "1000",
        "oz ounce": "28.349523125",
        "lb pound": "453.59237",
    },
    "money": {"cent": "1/100", "dollar usd buck $": "1"},
    "angle": {"degree deg": "1"},
    "percent": {"%": "1/100"},
    "volume": {"mL ml milliliter millilitre": "1/1000", "L l liter litre": "1"},
    "euro": {"€ euro eur": "1"},
    "sterling": {"£ gbp": "1"},
    "power": {"W watt": "1", "kW kilowatt": "1000"},
    "energy": {"J joule": "1", "kJ kilojoule": "1000"},
    "force": {"N newton": "1"},
    "voltage": {"V volt": "1"},
    "current": {"A ampere amp": "1"},
    "frequency": {"Hz hz hertz": "1"},
    "kelvin": {"K kelvin": "1"},
    "celsius": {"celsius": "1"},
    "fahrenheit": {"fahrenheit": "1"},
    "radian": {"rad radian": "1"},
}
_KNOWN = {
    name: (measure, Fraction(size))
    for measure, sizes in _TABLE.items()
    for names, size in sizes.items()
    for name in names.split()
}
_COMPOUND = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "cc": "cm^3"}
_POWER_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWER_AFTER = {"squared": 2, "cubed": 3}
# Words that follow a number and make it no quantity.
_NO_UNIT = frozenset(
    {
        "and",
        "base",
        "by",
        "for",
        "if",
        "is",
        "mod",
        "not",
        "or",
        "over",
        "plus",
        "minus",
        "times",
        "to",
    }
    | {"when", "where"}
)
_ANY = "unit"
_WORD = re.compile(r"([A-Za-z$€£%][A-Za-z.']*)(?:\^(?:\{(-?\d)\}|(\d)))?")
_DEGREES = {"^\\circ": "degree", "^\\circ C": "celsius", "^\\circ F": "fahrenheit"}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit.

    Attributes:
        measures: What it measures, with exponents, sorted by name.
        size: One of it in base units.
    """

    measures: tuple[tuple[str, int], ...]
    size: Fraction

    def fits(self, other: Unit) -> bool:
        """Whether both measure the same; "units" fits all, a degree fits the scales of temperature."""
        if self.measures == other.measures:
            return True
        names = {self.measures[0][0], other.measures[0][0]}
        return _ANY in names or bool("angle" in names and names & {"celsius", "fahrenheit"})


@lru_cache(maxsize=4096)
def read(text: str, *, attached: bool) -> Unit | None:
    """The unit that a text names, None if it names none.

    Args:
        text: What follows a number, spelled by `notation.spell`.
        attached: Whether it follows without a blank.
    """
    text = _DEGREES.get(text, text)
    if len(text) > _LONGEST:
        return None
    measures: Counter[str] = Counter()
    size = Fraction(1)
    over, *under = text.split(" of ", 1)[0].replace(" per ", "/").split("/")
    for side, sign in [(over, 1), *((side, -1) for side in under)]:
        factors = _factors(side.split(), attached=attached)
        if factors is None:
            return None
        for factor, exponent in factors:
            for measure, power in factor.measures:
                measures[measure] += power * exponent * sign
            size *= factor.size ** (exponent * sign)
    return Unit(tuple(sorted(measures.items())), size)


def _factors(words: list[str], *, attached: bool) -> list[tuple[Unit, int]] | None:
    factors: list[tuple[Unit, int]] = []
    power = 1
    for word in (word.rstrip(".") for word in words):
        if word in _POWER_BEFORE:
            power = _POWER_BEFORE[word]
            continue
        if word in _POWER_AFTER and factors:
            unit, exponent = factors.pop()
            factors.append((unit, exponent * _POWER_AFTER[word]))
            continue
        match = _WORD.fullmatch(word)
        found = _single(match[1].strip(".'"), attached=attached) if match else None
        if match is None or found is None:
            return None
        factors.append((found, power * int(match[2] or match[3] or 1)))
        power = 1
    return factors or None


def _single(word: str, *, attached: bool) -> Unit | None:
    """The unit of one word; None if it can be none."""
    if word in _COMPOUND:
        return read(_COMPOUND[word], attached=False)
    if len(word) == 1 and word.isalpha():
        return None if attached or word not in _KNOWN else _known(word)
    for name in (word, word.lower(), _singular(word.lower())):
        if name in _KNOWN:
            return _known(name)
    if attached or not word.isalpha() or word.lower() in _NO_UNIT:
        return None
    return Unit(((_singular(word.lower()), 1),), Fraction(1))


def _known(name: str) -> Unit:
    measure, size = _KNOWN[name]
    if measure == "volume":
        return Unit((("length", 3),), size / 1000)
    return Unit(((measure, 1),), size)


def _singular(word: str) -> str:
    for ending in ("ches", "shes"):
        if word.endswith(ending):
            return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


PERCENT = Unit((("percent", 1),), Fraction(1, 100))
DEGREE = Unit((("angle", 1),), Fraction(1))
