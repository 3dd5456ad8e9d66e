"""The exact checker: which step of a written trace is the first wrong one, and how to go on.

A step is right if it is the next allowed operation on the values reached so far and its result is
true: any product not yet multiplied out, or the next term joined to the running sum, left to right.
So a correct-looking step on a wrong value is wrong too, but only the earliest is reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdbench import traces
from sdbench.arithmetic.expression import Expression, Operator, apply
from sdbench.arithmetic.worked import Equation, Move, Order, carry_out, plan

_EQUATION = re.compile(r"([0-9])([+*-])([0-9])=([0-9])")


@dataclass(frozen=True, slots=True)
class Progress:
    """What correct steps have established so far.

    Attributes:
        expression: The problem.
        known: For each term its value, None while its product is not multiplied out.
        total: The running sum, None before the first sum.
        joined: How many terms the running sum holds; the next is the term with this index.
    """

    expression: Expression
    known: tuple[int | None, ...]
    total: int | None = None
    joined: int = 1

    @property
    def done(self) -> bool:
        """Whether every term has joined the sum."""
        return self.joined == len(self.expression.terms)

    def advance(self, equation: Equation) -> Progress | None:
        """The progress after this step, None if the step is wrong."""
        if equation.result != apply(equation.left, equation.operator, equation.right):
            return None
        if equation.operator == "*":
            for index, term in enumerate(self.expression.terms):
                if self.known[index] is None and term.factors == (equation.left, equation.right):
                    known = (*self.known[:index], equation.result, *self.known[index + 1 :])
                    return replace(self, known=known)
            return None
        if self.done:
            return None
        left = self.known[0] if self.total is None else self.total
        expected = (left, self.expression.operator(self.joined), self.known[self.joined])
        if (equation.left, equation.operator, equation.right) != expected:
            return None
        return replace(self, total=equation.result, joined=self.joined + 1)

    def finish(self, order: Order) -> list[Equation]:
        """The right remaining steps, in the solver's order as far as it still can be kept."""
        steps: list[Equation] = []
        progress = self

        def multiply(index: int, progress: Progress) -> Progress:
            left, right = progress.expression.terms[index].factors
            return progress._take(Equation(left, "*", right, apply(left, "*", right)), steps)

        if order is not Order.INTERLEAVED:
            open_products = [i for i, value in enumerate(progress.known) if value is None]
            if order is Order.PRODUCTS_REVERSED:
                open_products.reverse()
            for index in open_products:
                progress = multiply(index, progress)
        while not progress.done:
            for index in (0, progress.joined):
                if progress.known[index] is None:
                    progress = multiply(index, progress)
            left = progress.known[0] if progress.total is None else progress.total
            right = progress.known[progress.joined]
            assert left is not None and right is not None, "both were multiplied out above"
            operator = self.expression.operator(progress.joined)
            equation = Equation(left, operator, right, apply(left, operator, right))
            progress = progress._take(equation, steps)
        return steps

    def follow(self, moves: Sequence[Move]) -> list[Equation]:
        """The right remaining steps in the order of a plan, without what is done already.

        Args:
            moves: A plan in which every product is multiplied out before any term joins the sum.
        """
        known, total = list(self.known), self.total
        steps: list[Equation] = []

        def take(left: int | None, operator: Operator, right: int | None) -> int:
            assert left is not None and right is not None, "products come first in the plan"
            steps.append(Equation(left, operator, right, apply(left, operator, right)))
            return steps[-1].result

        for move in moves:
            if move.multiply and known[move.term] is None:
                left, right = self.expression.terms[move.term].factors
                known[move.term] = take(left, "*", right)
            elif not move.multiply and move.term >= self.joined:
                operator = self.expression.operator(move.term)
                total = take(known[0] if total is None else total, operator, known[move.term])
        return steps

    def _take(self, equation: Equation, steps: list[Equation]) -> Progress:
        steps.append(equation)
        after = self.advance(equation)
        assert after is not None, f"{equation} is right by construction"
        return after


@dataclass(frozen=True, slots=True)
class Check:
    """What the checker found in one trace.

    Attributes:
        trace: The trace as parsed.
        equations: The content of each step, None where it is no equation.
        first_wrong: Index (from 0) of the first wrong step, None if every written step is right.
        complete: Every written step is right and together they work the problem out.
        answer_right: The answer tag holds the right digit.
        progress: What the correct steps before the first wrong one established.
    """

    trace: traces.Trace
    equations: tuple[Equation | None, ...]
    first_wrong: int | None
    complete: bool
    answer_right: bool
    progress: Progress

    @property
    def all_right(self) -> bool:
        """Every step right, none missing, and the answer right."""
        return self.complete and self.answer_right and self.trace.well_formed


def begin(expression: Expression) -> Progress:
    """The progress before the first step."""
    known = tuple(None if term.is_product else term.value for term in expression.terms)
    return Progress(expression, known)


def check(expression: Expression, text: str) -> Check:
    """Checks a completion step by step; total: any text gets a verdict."""
    trace = traces.parse(text)
    equations = tuple(_read(step) for step in trace.steps)
    progress = begin(expression)
    first_wrong = None
    for index, equation in enumerate(equations):
        after = None if equation is None else progress.advance(equation)
        if after is None:
            first_wrong = index
            break
        progress = after
    return Check(
        trace=trace,
        equations=equations,
        first_wrong=first_wrong,
        complete=first_wrong is None and progress.done,
        answer_right=trace.answer == str(expression.value),
        progress=progress,
    )


def order_of(expression: Expression, equations: tuple[Equation | None, ...]) -> Order:
    """The order whose operations agree longest with the steps written; ties go to the first."""

    def agreement(order: Order) -> int:
        count = 0
        for planned, written in zip(
            carry_out(expression, plan(expression, order)), equations, strict=False
        ):
            if written is None or _operation(planned) != _operation(written):
                break
            count += 1
        return count

    return max(Order, key=agreement)


def _operation(equation: Equation) -> tuple[Operator, tuple[int, int] | None]:
    factors = (equation.left, equation.right) if equation.operator == "*" else None
    return equation.operator, factors


def _read(step: traces.Step) -> Equation | None:
    match = _EQUATION.fullmatch(step.content) if step.closed else None
    if match is None:
        return None
    operator: Operator = match[2]  # type: ignore[assignment]  # the pattern admits only these
    return Equation(int(match[1]), operator, int(match[3]), int(match[4]))
