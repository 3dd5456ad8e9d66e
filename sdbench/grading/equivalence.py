r"""Whether two answers are the same, by their structure and, at the leaves, by algebra.

In go two canonical answers that `exact.decide` left open. The rules do not depend on which of the two
is the right one; only what `algebra` hands to math-verify does. They are:

- A bare list and a set are unordered, a tuple is ordered; a set is no tuple. A bare list equals a
  tuple in the same order. Vectors and matrices of one row or column are tuples.
- `\pm` stands for both values.
- x = 5 equals 5, and lists of such equations equal lists or tuples of values; the left side must be
  a name, so x^2 = 5 is not 5. Two equations are equal if they assign equal values to one name or
  differ by a factor.
- Inequalities, memberships, intervals and their unions are equal as sets of real numbers. (1, 2) is
  an interval where the other side is one.
- Ratios may be scaled; a : b equals a/b. A residue equals its value if the other side names no
  modulus.
- A side without a unit takes the other's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import sympy  # type: ignore[import-untyped]

from sdbench.grading import algebra, exact, quantity, real_sets
from sdbench.grading.forms import (
    Form,
    Joined,
    Leaf,
    Listing,
    Matrix,
    Membership,
    Order,
    Ratio,
    Relation,
    Residue,
    is_condition,
    parse,
    with_parameter_of,
)
from sdbench.grading.quantity import Measured
from sdbench.grading.units import DEGREE, PERCENT

_NO_PART_OF_NAMES = re.compile(r"_(?:\{[^{}]*\}|\w)|(?<=[fghFGHP])(?:\^\{-1\})?'*\([^()]*\)")
_NAME = re.compile(r"[^\d^]*[A-Za-z][^\d^]*")
_FUNCTION = re.compile(r"[a-zA-Z]\([a-zA-Z]\)")
_DIRECTION = {"<": 1, ">": -1, "\\leq": 1, "\\geq": -1}
_CLOSED = ("[]", "[)", "(]")


def equivalent(gold: str, answer: str) -> bool:
    """Whether two canonical answers are the same."""
    return _same(parse(gold), parse(with_parameter_of(gold, answer)))


def _same(gold: Form, answer: Form) -> bool:
    gold, answer = _single(gold), _single(answer)
    if gold == answer:
        return True
    for rule in (_by_residue, _by_equation, _by_set, _by_listing, _by_matrix, _by_ratio):
        finding = rule(gold, answer)
        if finding is not None:
            return finding
    return isinstance(gold, Leaf) and isinstance(answer, Leaf) and same_leaf(gold.text, answer.text)


def _single(form: Form) -> Form:
    """A listing of one is its item."""
    while isinstance(form, Listing) and len(form.items) == 1:
        form = form.items[0]
    return form


def _by_residue(gold: Form, answer: Form) -> bool | None:
    match gold, answer:
        case Residue(right, modulus), Residue(given, other):
            if modulus != other:
                return False
            difference = [
                quantity.read(v.text) if isinstance(v, Leaf) else None for v in (right, given)
            ]
            if modulus.isdigit() and int(modulus) and difference[0] and difference[1]:
                return (difference[0].value - difference[1].value) % int(modulus) == 0
            return _same(right, given)
        case (Residue(value), other) | (other, Residue(value)):
            return _same(value, other)
    return None


@dataclass(frozen=True, slots=True)
class _Assigned:
    """What an equation says a name is."""

    name: str
    value: Form


def _assigned(form: Form) -> _Assigned | None:
    if not isinstance(form, Relation) or not form.is_equation:
        return None
    first, last = form.terms[0], form.terms[-1]
    if _is_name(first):
        return _Assigned(first, parse(last))
    if _is_name(last):
        return _Assigned(last, parse(first))
    if not re.search("[A-Za-z]", re.sub(r"\\[a-zA-Z]+", "", "".join(form.terms[:-1]))):
        return _Assigned("", parse(last))
    return None


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(_NO_PART_OF_NAMES.sub("", text)) is not None and not text.startswith(
        "\\pm"
    )


def _by_equation(gold: Form, answer: Form) -> bool | None:
    are_equations = [isinstance(form, Relation) and form.is_equation for form in (gold, answer)]
    if not any(are_equations):
        return None
    right, given = _assigned(gold), _assigned(answer)
    if all(are_equations):
        if (
            right
            and given
            and _same_name(right.name, given.name)
            and _same(right.value, given.value)
        ):
            return True
        return _same_equation(gold, answer)
    if are_equations[0]:
        return right is not None and _same(right.value, answer)
    return given is not None and _same(gold, given.value)


def _same_name(right: str, given: str) -> bool:
    """Whether two left sides name the same; y may be called f(x)."""
    if right == given:
        return True
    return "y" in (right, given) and any(_FUNCTION.fullmatch(name) for name in (right, given))


def _same_equation(gold: Form, answer: Form) -> bool:
    right, given = _difference(gold), _difference(answer)
    if right is None or given is None:
        return False
    numerators = [sympy.fraction(sympy.together(side))[0] for side in (right, given)]
    return algebra.proportional(*numerators, positive=False)


def _difference(form: Form) -> sympy.Expr | None:
    """The two sides of a relation subtracted; None if it has more sides or cannot be read."""
    if not isinstance(form, Relation) or len(form.terms) != 2:
        return None
    left, right = map(algebra.read, form.terms)
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    return left - right


def _by_set(gold: Form, answer: Form) -> bool | None:
    conditions = is_condition(gold), is_condition(answer)
    named = [isinstance(form, Leaf) and form.text in real_sets.NAMED for form in (gold, answer)]
    if not any(conditions) and not any(named):
        return None
    right, given = real_sets.read(gold), real_sets.read(answer)
    if right is not None and given is not None:
        return real_sets.same(right, given)
    return all(conditions) and _same_condition(gold, answer)


def _same_condition(gold: Form, answer: Form) -> bool:
    """Compares conditions on several variables, part by part."""
    match gold, answer:
        case Joined(right_operator, right), Joined(given_operator, given):
            same_kind = right_operator == given_operator or "," in (right_operator, given_operator)
            return same_kind and _unordered(right, given)
        case Membership(right_element, right_of), Membership(given_element, given_of):
            return right_element == given_element and _same(right_of, given_of)
        case Relation(signs=(right_sign,)), Relation(signs=(given_sign,)):
            return _same_inequality(gold, right_sign, answer, given_sign)
    return False


def _same_inequality(gold: Form, right_sign: str, answer: Form, given_sign: str) -> bool:
    right, given = _difference(gold), _difference(answer)
    if right is None or given is None:
        return False
    if right_sign not in _DIRECTION or given_sign not in _DIRECTION:
        return right_sign == given_sign and algebra.proportional(right, given, positive=False)
    if right_sign.startswith("\\") != given_sign.startswith("\\"):
        return False
    turned = given * _DIRECTION[right_sign] * _DIRECTION[given_sign]
    return algebra.proportional(right, turned, positive=True)


def _by_listing(gold: Form, answer: Form) -> bool | None:
    if not isinstance(gold, Listing) or not isinstance(answer, Listing):
        return None
    orders = {gold.order, answer.order}
    if Order.TUPLE in orders:
        return _same_tuple(gold, answer)
    named = _names_each(gold.items), _names_each(answer.items)
    if Order.SET in orders:
        return (
            not any(named)
            and _covers(gold.items, answer.items)
            and _covers(answer.items, gold.items)
        )
    if named[0] != named[1]:
        return _ordered(gold.items, answer.items)
    return _unordered(gold.items, answer.items)


def _same_tuple(gold: Listing, answer: Listing) -> bool:
    if Order.SET in (gold.order, answer.order):
        return False
    is_pair = len(gold.items) == 2
    if is_pair and (gold.brackets in _CLOSED or answer.brackets in _CLOSED):
        return gold.brackets == answer.brackets and _ordered(gold.items, answer.items)
    return _ordered(gold.items, answer.items)


def _names_each(items: Sequence[Form]) -> bool:
    """Whether the items give values to different names, as x = 1, y = 2 do and x = 1, x = 2 do not."""
    assigned = [_assigned(item) for item in items]
    names = {one.name for one in assigned if one}
    return len(names) == len(items)


def _ordered(right: Sequence[Form], given: Sequence[Form]) -> bool:
    return len(right) == len(given) and all(map(_same, right, given))


def _unordered(right: Sequence[Form], given: Sequence[Form]) -> bool:
    if len(right) != len(given):
        return False
    left = list(given)
    for item in right:
        index = next((i for i, other in enumerate(left) if _same(item, other)), None)
        if index is None:
            return False
        del left[index]
    return True


def _covers(right: Sequence[Form], given: Sequence[Form]) -> bool:
    return all(any(_same(item, other) for other in given) for item in right)


def _by_matrix(gold: Form, answer: Form) -> bool | None:
    match gold, answer:
        case Matrix(right), Matrix(given):
            same_shape = [len(row) for row in right] == [len(row) for row in given]
            return same_shape and _ordered(_cells(right), _cells(given))
        case Matrix(rows), Listing(items, Order.TUPLE):
            return _is_vector(rows) and _ordered(_cells(rows), items)
        case Listing(items, Order.TUPLE), Matrix(rows):
            return _is_vector(rows) and _ordered(items, _cells(rows))
    return None


def _cells(rows: Sequence[Sequence[Form]]) -> list[Form]:
    return [cell for row in rows for cell in row]


def _is_vector(rows: Sequence[Sequence[Form]]) -> bool:
    return len(rows) == 1 or all(len(row) == 1 for row in rows)


def _by_ratio(gold: Form, answer: Form) -> bool | None:
    right, given = _quotients(gold), _quotients(answer)
    if not isinstance(gold, Ratio) and not isinstance(answer, Ratio):
        return None
    return len(right) == len(given) and all(map(same_leaf, right, given))


def _quotients(form: Form) -> list[str]:
    match form:
        case Ratio(terms):
            return [exact.canonical(f"\\frac{{{a}}}{{{b}}}") for a, b in pairwise(terms)]
        case Leaf(text):
            return [text]
    return []


def same_leaf(gold: str, answer: str) -> bool:
    """Whether two canonical answers without structure are the same."""
    finding = exact.decide(gold, answer)
    if finding is not None:
        return finding
    if _same_measured(gold, answer):
        return True
    # "5 h" may be five hours or, after a thin space, a product.
    return algebra.same(gold, answer)


def _same_measured(gold: str, answer: str) -> bool:
    right, given = quantity.measured(gold), quantity.measured(answer)
    if right.unit is None or given.unit is None:
        return _same_with_one_unit(right, given)
    if not right.unit.fits(given.unit):
        return False
    if right.unit.measures != given.unit.measures or right.unit.size == given.unit.size:
        return algebra.same(right.number, given.number)
    return algebra.same(_scaled(right, right.unit.size), _scaled(given, given.unit.size))


def _same_with_one_unit(right: Measured, given: Measured) -> bool:
    unit = right.unit or given.unit
    if unit is None:
        return False
    measured, bare = (right, given) if right.unit else (given, right)
    if unit == PERCENT and algebra.same(_scaled(measured, unit.size), bare.number):
        return True
    if unit == DEGREE and algebra.same(
        f"({measured.number})\\cdot\\frac{{\\pi}}{{180}}", bare.number
    ):
        return True
    return algebra.same(right.number, given.number)


def _scaled(measured: Measured, size: Fraction) -> str:
    return f"({measured.number})\\cdot\\frac{{{size.numerator}}}{{{size.denominator}}}"
