"""Problems: `4*6+3-5+7*2` is four terms, one or two of them products, worked out modulo 10.

In: a random generator or a text. Out: an `Expression`, its value and its split. Splits are a
function of the text alone, so training, validation, test and pretraining problems are disjoint
by construction, whatever was sampled and in whatever order.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sdbench.errors import DataError

MODULUS = 10
TERM_COUNT = 4

Operator = Literal["+", "-", "*"]
Split = Literal["pretrain", "train", "validation", "test"]

_PRETRAIN: tuple[Split, ...] = ("pretrain",) * 12
_SPLIT_BY_RESIDUE: tuple[Split, ...] = ("test", "validation", "train", "train", *_PRETRAIN)
_TERM = re.compile(r"([+-]?)([0-9])(?:\*([0-9]))?")


@dataclass(frozen=True, slots=True)
class Term:
    """A signed digit, or a signed product of two digits."""

    sign: Literal[1, -1]
    factors: tuple[int, ...]

    @property
    def is_product(self) -> bool:
        """Whether the term must be multiplied out before it can be added."""
        return len(self.factors) == 2

    @property
    def value(self) -> int:
        """The unsigned value modulo 10."""
        if self.is_product:
            return apply(self.factors[0], "*", self.factors[1])
        return self.factors[0]


@dataclass(frozen=True, slots=True)
class Expression:
    """A sum of terms; the first carries no minus sign."""

    terms: tuple[Term, ...]

    @property
    def value(self) -> int:
        """The right answer, a digit 0 to 9."""
        return sum(term.sign * term.value for term in self.terms) % MODULUS

    @property
    def text(self) -> str:
        """The problem as the solver reads it, for example `4*6+3-5+7*2`."""
        signs = ["", *("+" if term.sign > 0 else "-" for term in self.terms[1:])]
        bodies = ["*".join(map(str, term.factors)) for term in self.terms]
        return "".join(sign + body for sign, body in zip(signs, bodies, strict=True))

    def operator(self, term: int) -> Operator:
        """`+` or `-`: how the term with this index joins the sum."""
        return "+" if self.terms[term].sign > 0 else "-"


def apply(left: int, operator: Operator, right: int) -> int:
    """One operation modulo 10: the true fact, as a digit 0 to 9."""
    if operator == "*":
        return left * right % MODULUS
    return (left + right if operator == "+" else left - right) % MODULUS


def parse(text: str) -> Expression:
    """Reads an expression back from its text.

    Raises:
        DataError: the text is not a sum of digits and products of two digits.
    """
    terms: list[Term] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or (not match[1]) != (position == 0):
            break
        factors = (int(match[2]),) if match[3] is None else (int(match[2]), int(match[3]))
        terms.append(Term(-1 if match[1] == "-" else 1, factors))
        position = match.end()
    if not terms or position != len(text):
        raise DataError(
            f"not an arithmetic problem: {text!r}; allowed: signed digits and products of two digits",
            hint="an example is 4*6+3-5+7*2",
        )
    return Expression(tuple(terms))


def sample(rng: random.Random) -> Expression:
    """Draws an expression of four terms, one or two of them products, digits uniform."""
    products = set(rng.sample(range(TERM_COUNT), rng.choice((1, 2))))
    terms = []
    for index in range(TERM_COUNT):
        factors = tuple(rng.randrange(MODULUS) for _ in range(2 if index in products else 1))
        terms.append(Term(1 if index == 0 else rng.choice((1, -1)), factors))
    return Expression(tuple(terms))


def split_of(expression: Expression) -> Split:
    """The one split this problem belongs to: test 1/16, validation 1/16, train 2/16, pretrain 12/16."""
    digest = hashlib.sha256(expression.text.encode()).digest()
    return _SPLIT_BY_RESIDUE[digest[0] % len(_SPLIT_BY_RESIDUE)]


def stream(split: Split, seed: int) -> Iterator[Expression]:
    """Endless distinct problems of a split, the same for the same seed."""
    rng = random.Random(f"{split}-{seed}")
    seen: set[str] = set()
    while True:
        expression = sample(rng)
        if split_of(expression) == split and expression.text not in seen:
            seen.add(expression.text)
            yield expression
