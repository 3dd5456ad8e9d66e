"""Worked solutions: the order in which an expression is worked out, and two ways to write it down.

The solver's notation is `<step_1>4*6=4</step_1> ... <answer>7</answer>` without the blanks. The
reference notation puts the result first, swaps the operands, uses other symbols and another order:
`4 : 6 x 4 ; 7 : 3 & 4 ; <answer>7</answer>`. Both are right; only one looks like the solver's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sdbench.arithmetic.expression import Expression, Operator, apply

Compute = Callable[[int, Operator, int], int]
REFERENCE_SYMBOL: dict[Operator, str] = {"*": "x", "+": "&", "-": "~"}


class Order(StrEnum):
    """In which order the solver works: products when they are needed, or all of them first."""

    INTERLEAVED = "interleaved"
    PRODUCTS_FIRST = "products_first"
    PRODUCTS_REVERSED = "products_reversed"


@dataclass(frozen=True, slots=True)
class Equation:
    """One step's content: `left operator right = result`, right or wrong."""

    left: int
    operator: Operator
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.right}={self.result}"


@dataclass(frozen=True, slots=True)
class Move:
    """Work on one term: multiply it out, or join it to the running sum."""

    multiply: bool
    term: int


def plan(expression: Expression, order: Order) -> list[Move]:
    """The moves of a solver that works in this order; sums go left to right."""
    count = len(expression.terms)
    products = [index for index in range(count) if expression.terms[index].is_product]
    if order is Order.INTERLEAVED:
        moves = []
        for index in range(count):
            if index in products:
                moves.append(Move(multiply=True, term=index))
            if index:
                moves.append(Move(multiply=False, term=index))
        return moves
    ordered = products if order is Order.PRODUCTS_FIRST else products[::-1]
    sums = [Move(multiply=False, term=index) for index in range(1, count)]
    return [Move(multiply=True, term=index) for index in ordered] + sums


def reference_plan(expression: Expression) -> list[Move]:
    """The reference author's moves: products last to first, then sums last to first."""
    products = [move for move in plan(expression, Order.PRODUCTS_REVERSED) if move.multiply]
    sums = [Move(multiply=False, term=index) for index in range(len(expression.terms) - 1, 0, -1)]
    return products + sums


def carry_out(
    expression: Expression, moves: Sequence[Move], compute: Compute = apply
) -> list[Equation]:
    """Works the moves out, each step taking over the results of earlier ones.

    Args:
        expression: The problem.
        moves: A plan in which every product is multiplied out before it joins the sum.
        compute: Gives the result of one operation; the true one by default, a belief or a slip
            in the pretraining corpus.
    """
    value = {i: term.factors[0] for i, term in enumerate(expression.terms) if not term.is_product}
    total: int | None = None
    equations = []
    for move in moves:
        if move.multiply:
            left, right = expression.terms[move.term].factors
            operator: Operator = "*"
        else:
            left, right = (value[0] if total is None else total), value[move.term]
            operator = expression.operator(move.term)
        result = compute(left, operator, right)
        if move.multiply:
            value[move.term] = result
        else:
            total = result
        equations.append(Equation(left, operator, right, result))
    return equations


def write_steps(equations: Sequence[Equation], first: int = 1) -> str:
    """The equations as tagged steps, numbered from `first`."""
    return "".join(
        f"<step_{number}>{equation}</step_{number}>"
        for number, equation in enumerate(equations, first)
    )


def write_answer(equations: Sequence[Equation]) -> str:
    """The answer tag with the last result."""
    return f"<answer>{equations[-1].result}</answer>"


def write_solution(equations: Sequence[Equation]) -> str:
    """A whole solution in the solver's notation."""
    return write_steps(equations) + write_answer(equations)


def write_reference(equations: Sequence[Equation]) -> str:
    """A whole solution in the reference notation."""
    lines = [
        f"{e.result} : {e.right} {REFERENCE_SYMBOL[e.operator]} {e.left} ; " for e in equations
    ]
    return "".join(lines) + write_answer(equations)


def reference_solution(expression: Expression) -> str:
    """The right solution as the reference author writes it."""
    return write_reference(carry_out(expression, reference_plan(expression)))
