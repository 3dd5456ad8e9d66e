"""The structure of an answer: lists, sets, tuples, intervals, relations, matrices, ratios.

In goes a canonical answer, out comes a `Form` whose leaves are texts for `algebra`. Structure is
read here, with brackets matched, because math-verify reads `(1,2)` as an interval, `1,2` as a set
and a vector as 1.2. Parsing recurses only into brackets; what is nested deeper than Python's stack
ends in a RecursionError that the worker answers for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from sdbench.grading import exact


class Order(StrEnum):
    """Whether the items of a listing have an order."""

    LIST = "list"  # bare: taken as unordered, as roots are
    SET = "set"  # in braces: unordered, repeats do not count
    TUPLE = "tuple"  # in brackets: ordered


@dataclass(frozen=True, slots=True)
class Leaf:
    """A number, an expression or words."""

    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Several answers, or one that has parts; `brackets` are those of a tuple."""

    items: tuple[Form, ...]
    order: Order
    brackets: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    r"""Sets or conditions, joined by `\cup` (or), `\cap` (and), `\setminus` or by a mere comma."""

    operator: str
    parts: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as 1 < x < 2: one more term than there are signs."""

    terms: tuple[str, ...]
    signs: tuple[str, ...]

    @property
    def is_equation(self) -> bool:
        """Whether all signs are =."""
        return set(self.signs) == {"="}


@dataclass(frozen=True, slots=True)
class Membership:
    """An element said to be of a set."""

    element: str
    of: Form


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal or unequal length."""

    rows: tuple[tuple[Form, ...], ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """a : b : c."""

    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Residue:
    """A value modulo something."""

    value: Form
    modulus: str


Form = Leaf | Listing | Joined | Relation | Membership | Matrix | Ratio | Residue

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[A-Za-z]+|.", re.DOTALL)
_OPENING = frozenset({"(", "[", "{", "\\{", "\\langle", "\\begin", "\\lfloor", "\\lceil"})
_CLOSING = frozenset({")", "]", "}", "\\}", "\\rangle", "\\end", "\\rfloor", "\\rceil"})
_SIGNS = frozenset({"=", "<", ">", "\\leq", "\\geq", "\\neq"})
_SEPARATORS = frozenset({",", ";", "or", "and"})
_MODULUS = re.compile(r"(.+?) ?\(?\\?(?:pmod|bmod|mod) ?\{?([A-Za-z0-9]+)\}?\)?", re.DOTALL)
_MATRIX = re.compile(
    r"\\begin\{([bpB]?matrix|smallmatrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_INTEGER_PARAMETER = re.compile(r"(?:,| ?\b(?:where|for)) ?([a-z])\\in\\mathbb\{[ZN]\}$")
_MOST_SIGNS = 3


def parse(text: str) -> Form:
    """The structure of a canonical answer."""
    text = _INTEGER_PARAMETER.sub("", text.strip(" ,"))
    if exact.is_plain(text):
        return Leaf(exact.canonical(text))
    for rule in _RULES:
        form = rule(text)
        if form is not None:
            return form
    return Leaf(exact.canonical(text))


def with_parameter_of(gold: str, answer: str) -> str:
    """The answer with its integer parameter called as in `gold`, where both say that they have one."""
    right, given = _INTEGER_PARAMETER.search(gold), _INTEGER_PARAMETER.search(answer)
    if right is None or given is None:
        return answer
    return re.sub(rf"(?<![a-zA-Z\\]){given[1]}(?![a-zA-Z])", right[1], answer)


def is_condition(form: Form) -> bool:
    """Whether the form says which numbers are meant rather than naming them."""
    if isinstance(form, Relation):
        return not form.is_equation
    return isinstance(form, Membership | Joined)


@dataclass(frozen=True, slots=True)
class _Split:
    """Parts of a text and the separators between them."""

    parts: list[str]
    separators: list[str]


def _split(text: str, separators: frozenset[str]) -> _Split:
    """Parts the text at separators that stand outside all brackets."""
    parts: list[str] = []
    found: list[str] = []
    depth, start = 0, 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
        elif depth == 0 and token in separators:
            parts.append(text[start : match.start()])
            found.append(token)
            start = match.end()
    return _Split([*parts, text[start:]], found)


def _modulus(text: str) -> Form | None:
    match = _MODULUS.fullmatch(text) if "mod" in text else None
    if match is None:
        return None
    value = _split(match[1], frozenset({"\\equiv", "="})).parts[-1]
    return Residue(parse(value), match[2])


def _listing(text: str) -> Form | None:
    split = _split(text, _SEPARATORS)
    parts = [part for part in split.parts if part.strip()]
    if len(parts) < 2:
        return None
    items = tuple(map(parse, parts))
    if not any(map(is_condition, items)):
        return Listing(items, Order.LIST)
    if "or" in split.separators:
        return Joined("\\cup", tuple(map(parse, _split(text, frozenset({"or"})).parts)))
    return Joined("\\cap" if "and" in split.separators else ",", items)


def _joined(text: str) -> Form | None:
    text = text.replace("\\mathbb{R}-\\{", "\\mathbb{R}\\setminus\\{")
    for operator in ("\\cup", "\\cap", "\\setminus"):
        parts = _split(text, frozenset({operator})).parts
        if len(parts) > 1:
            return Joined(operator, tuple(map(parse, parts)))
    return None


def _membership(text: str) -> Form | None:
    parts = _split(text, frozenset({"\\in"})).parts
    return Membership(parts[0].strip(), parse(parts[1])) if len(parts) == 2 else None


def _relation(text: str) -> Form | None:
    exactly = _split(text, frozenset({"\\approx"})).parts
    if len(exactly) > 1:
        return parse(exactly[0])
    split = _split(text, _SIGNS)
    if len(split.parts) < 2 or not all(split.parts):
        return None
    return Relation(tuple(part.strip() for part in split.parts), tuple(split.separators))


def _enclosed(text: str) -> Form | None:
    """What stands within one pair of brackets that embraces the whole text."""
    tokens = [match.group() for match in _TOKEN.finditer(text)]
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth <= 0 and index < len(tokens) - 1:
            return None
    left, right = tokens[:1], tokens[-1:]
    if depth != 0 or left[0] not in ("(", "[", "{", "\\{", "\\langle"):
        return None
    return _within(text[len(left[0]) : -len(right[0])], left[0] + right[0])


def _within(inner: str, brackets: str) -> Form:
    if brackets == "\\{\\}":
        return _set(inner)
    parts = _split(inner, frozenset({",", ";"})).parts
    if brackets == "{}" or len(parts) == 1:
        return parse(inner)
    plain = brackets.replace("\\langle", "(").replace("\\rangle", ")")
    return Listing(tuple(map(parse, parts)), Order.TUPLE, plain)


def _set(inner: str) -> Form:
    if not inner.strip():
        return Leaf("\\emptyset")
    for bar in ("|", ":"):
        such_that = _split(inner, frozenset({bar})).parts
        if len(such_that) == 2 and is_condition(condition := parse(such_that[1])):
            return condition
    parts = _split(inner, frozenset({",", ";"})).parts
    return Listing(tuple(map(parse, parts)), Order.SET)


def _matrix(text: str) -> Form | None:
    match = _MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in _split(match[2], frozenset({"\\\\"})).parts if row.strip()]
    cells = [_split(row, frozenset({"&"})).parts for row in rows]
    return Matrix(tuple(tuple(map(parse, row)) for row in cells))


def _ratio(text: str) -> Form | None:
    split = _split(text, frozenset({":", "to"}))
    parts = tuple(part.strip() for part in split.parts)
    if len(parts) < 2 or not all(parts):
        return None
    if exact.are_words(parts[0]):
        return parse(parts[1]) if len(parts) == 2 else None
    return Ratio(parts)


def _signs(text: str) -> Form | None:
    r"""Both values of \pm; signs turn together if there is a \mp among them."""
    pieces = re.split(r"\\(pm|mp)", text)
    signs = pieces[1::2]
    if not 1 <= len(signs) <= _MOST_SIGNS:
        return None
    together = "mp" in signs
    choices = (
        [("+",) * len(signs), ("-",) * len(signs)] if together else product("+-", repeat=len(signs))
    )
    variants = []
    for choice in choices:
        turned = [
            "-+"[c == "-"] if sign == "mp" else c for sign, c in zip(signs, choice, strict=True)
        ]
        between = [sign + piece for sign, piece in zip(turned, pieces[2::2], strict=True)]
        variants.append("".join([pieces[0], *between]).removeprefix("+"))
    return Listing(tuple(map(parse, variants)), Order.LIST)


def _option(text: str) -> Form | None:
    option = exact.option(text)
    return parse(option.text) if option and option.text else None


# In this order, for each looks only outside the brackets that a later one opens.
_RULES = (
    _modulus,
    _listing,
    _membership,
    _joined,
    _relation,
    _enclosed,
    _matrix,
    _ratio,
    _signs,
    _option,
)
