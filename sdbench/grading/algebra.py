"""Expressions: read by math-verify's LaTeX parser, compared as numbers.

In go two texts without structure, out comes whether they are equal. Both are evaluated with 60
digits, where they have variables at fixed points of either sign; they are equal if all values are.
That is quick, tells apart whatever differs, and can say yes wrongly only where two expressions
agree in 50 digits at all points. math-verify's own comparison rounds to 6 decimals, so that 1/2004!
equals 1/2006!; it is asked only about objects that are no expressions, the right answer first,
since it is not symmetric. Its timeouts use SIGALRM and are off. Nothing here bounds time or memory:
the worker's process does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache, partial

import sympy  # type: ignore[import-untyped]

from sdbench.grading import quantity

# The parser takes "2 3" for a mixed number and "1.2.3" for a product.
_MISREAD = re.compile(r"(?<![\d_^])\d+ \d|\.\d+\.")
_DIGITS = 60
_TOLERANCE = sympy.Float(10, _DIGITS) ** -50
_ZERO = sympy.Float(10, _DIGITS) ** -100
# Positive ones first: where an expression is not defined at a point, the point is left out.
_POINTS = tuple(
    sympy.Rational(n, 7919) for n in (5021, 12373, 20101, 3343, 27581, -9239, -4507, -17011, -33457)
)
_TRIALS = 6


def same(gold: str, answer: str) -> bool:
    """Whether two expressions are equal; False where either cannot be read."""
    right, given = read(gold), read(answer)
    if right is None or given is None:
        return False
    if isinstance(right, sympy.Expr) and isinstance(given, sympy.Expr):
        return equal(right, given) or _same_decimal(gold, right, answer, given)
    if type(right) is type(given) and right == given:
        return True
    from math_verify import verify

    return bool(verify([right], [given], timeout_seconds=None, raise_on_error=True))


@lru_cache(maxsize=1024)
def read(text: str) -> sympy.Basic | sympy.MatrixBase | None:
    """The object that a text denotes, floats made exact; None if the parser cannot read it."""
    if _MISREAD.search(text):
        return None
    number = quantity.read(text)
    if number is not None and number.unit is None:
        return sympy.Rational(number.value.numerator, number.value.denominator)
    try:
        return _exact(_parser()(text))
    except MemoryError:
        raise
    except Exception:  # The parser raises whatever its grammar meets; unreadable is the finding.
        return None


def equal(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two expressions have the same value, at all points that both are defined at."""
    if a == b:
        return True
    names = sorted({symbol.name for symbol in a.free_symbols | b.free_symbols} - {"i"})
    compared = 0
    for trial in range(_TRIALS if names else 1):
        x, y = _at(a, names, trial), _at(b, names, trial)
        if x is None or y is None:
            continue
        if not _close(x, y):
            return False
        compared += 1
    return compared > 0


def proportional(a: sympy.Expr, b: sympy.Expr, *, positive: bool) -> bool:
    """Whether a is b times a constant other than 0, so that a = 0 and b = 0 say the same.

    Args:
        a: An expression.
        b: Another.
        positive: Whether the constant must be positive, as it must for a < 0 and b < 0.
    """
    names = sorted({symbol.name for symbol in a.free_symbols | b.free_symbols} - {"i"})
    factors = []
    for trial in range(_TRIALS if names else 1):
        x, y = _at(a, names, trial), _at(b, names, trial)
        if x is None or y is None:
            continue
        if abs(x) < _ZERO or abs(y) < _ZERO:
            return bool(abs(x) < _ZERO and abs(y) < _ZERO) and equal(a, b)
        factors.append(x / y)
    if not factors or not all(_close(factor, factors[0]) for factor in factors):
        return False
    return not positive or bool(sympy.re(factors[0]) > 0)


@cache
def _parser() -> Callable[[str], sympy.Basic | sympy.MatrixBase]:
    """math-verify's LaTeX parser, told to leave units and the case of letters alone."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
    from math_verify.parser import NormalizationConfig, latex2sympy

    return partial(
        latex2sympy,
        convert_degrees=True,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none"
        ),
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )


def _exact(parsed: sympy.Basic | sympy.MatrixBase) -> sympy.Basic | sympy.MatrixBase:
    """Evaluates what the parser left standing; 0.1 becomes a tenth."""
    if not isinstance(parsed, sympy.Expr):
        return parsed
    floats = {number: sympy.Rational(str(number)) for number in parsed.atoms(sympy.Float)}
    return parsed.xreplace(floats).doit()


def _at(expression: sympy.Expr, names: list[str], trial: int) -> sympy.Expr | None:
    """The value at one of the points; None if it has no finite one there."""
    values = {
        symbol: sympy.I
        if symbol.name == "i"
        else _POINTS[(trial + 4 * names.index(symbol.name)) % len(_POINTS)]
        for symbol in expression.free_symbols
    }
    at_point = expression.subs(values).doit()
    value = at_point if at_point.is_Rational else at_point.evalf(_DIGITS)
    if not value.is_number or value.is_finite is not True:
        return None
    return value


def _close(x: sympy.Expr, y: sympy.Expr) -> bool:
    if x.is_Rational and y.is_Rational:
        return bool(x == y)
    size = max(abs(x), abs(y))
    if size < _ZERO:
        # Cancellation leaves noise in place of 0; two numbers as small as that are rational.
        return True
    return bool(abs(x - y) <= _TOLERANCE * size)


def _same_decimal(gold: str, right: sympy.Expr, answer: str, given: sympy.Expr) -> bool:
    """Whether one is a decimal of sufficiently many places and the other the number it was cut from."""
    places = [
        number.decimals if (number := quantity.read(text)) else None for text in (gold, answer)
    ]
    values = [_fraction(right), _fraction(given)]
    if places == [None, None] or values[0] is None or values[1] is None:
        return False
    return quantity.agree(values[0], places[0], values[1], places[1])


def _fraction(number: sympy.Expr) -> Fraction | None:
    if number.free_symbols:
        return None
    value = number.evalf(_DIGITS)
    if not value.is_Float and not value.is_Rational:
        return None
    exact = sympy.Rational(value)
    return Fraction(int(exact.p), int(exact.q))
