"""Invariants of problems, worked solutions and the checker, over generated problems."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from sdbench.arithmetic.checker import begin, check, order_of
from sdbench.arithmetic.expression import (
    Expression,
    Operator,
    Term,
    apply,
    parse,
    sample,
    split_of,
)
from sdbench.arithmetic.worked import (
    REFERENCE_SYMBOL,
    Order,
    carry_out,
    plan,
    reference_solution,
    write_solution,
    write_steps,
)
from sdbench.errors import DataError

DIGITS = st.integers(0, 9)
FACTORS = st.lists(DIGITS, min_size=1, max_size=2).map(tuple)
FIRST_TERMS = st.builds(Term, st.just(1), FACTORS)
TERMS = st.builds(Term, st.sampled_from([1, -1]), FACTORS)
EXPRESSIONS = st.builds(
    lambda first, rest: Expression((first, *rest)), FIRST_TERMS, st.lists(TERMS, max_size=5)
)
SAMPLED = st.integers(0, 2**32).map(lambda seed: sample(random.Random(seed)))
ORDERS = st.sampled_from(Order)


@given(EXPRESSIONS)
def test_text_and_parse_are_inverse(expression: Expression) -> None:
    assert parse(expression.text) == expression


@given(EXPRESSIONS)
def test_the_value_is_what_python_computes(expression: Expression) -> None:
    assert expression.value == eval(expression.text) % 10


@given(st.text(alphabet="0123456789+-* x", max_size=12))
def test_any_text_is_refused_or_read_exactly(text: str) -> None:
    try:
        expression = parse(text)
    except DataError:
        return
    assert expression.text == text


@given(SAMPLED)
def test_sampled_problems_have_four_terms_and_one_or_two_products(expression: Expression) -> None:
    assert len(expression.terms) == 4
    assert sum(term.is_product for term in expression.terms) in (1, 2)
    assert expression.terms[0].sign == 1


@given(EXPRESSIONS)
def test_the_split_depends_on_the_text_alone(expression: Expression) -> None:
    assert split_of(expression) == split_of(parse(expression.text))


@given(SAMPLED, ORDERS)
def test_every_order_gives_a_fully_right_solution(expression: Expression, order: Order) -> None:
    found = check(expression, write_solution(carry_out(expression, plan(expression, order))))
    assert found.first_wrong is None
    assert found.all_right


@given(SAMPLED)
def test_each_line_of_the_reference_is_true_and_takes_over_earlier_results(
    expression: Expression,
) -> None:
    """`r : b op a ;` says a op b = r; products of the problem first, then one chain of sums."""
    text = reference_solution(expression)
    *lines, answer = text.split(" ; ")
    assert answer == f"<answer>{expression.value}</answer>"
    meaning = {symbol: operator for operator, symbol in REFERENCE_SYMBOL.items()}
    products: list[tuple[int, ...]] = []
    results: list[int] = []
    for line in lines:
        match = re.fullmatch(r"(\d) : (\d) ([x&~]) (\d)", line)
        assert match is not None, line
        result, right, left = int(match[1]), int(match[2]), int(match[4])
        operator = meaning[match[3]]
        assert result == apply(left, operator, right)
        if operator == "*":
            assert not results, "all products come before all sums"
            products.append((left, right))
        else:
            assert left == (results[-1] if results else expression.terms[0].value)
            results.append(result)
    assert products == [term.factors for term in reversed(expression.terms) if term.is_product]
    assert len(results) == len(expression.terms) - 1


def corrupted(expression: Expression, order: Order, index: int, shift: int) -> str:
    """A solution whose step `index` (from 0) has a result off by `shift`, carried on faithfully."""
    count = -1

    def compute(left: int, operator: Operator, right: int) -> int:
        nonlocal count
        count += 1
        value = apply(left, operator, right)
        return (value + shift) % 10 if count == index else value

    return write_solution(carry_out(expression, plan(expression, order), compute))


SHIFTS = st.integers(1, 9)


@given(SAMPLED, ORDERS, st.data(), SHIFTS)
def test_the_checker_finds_exactly_the_corrupted_step(
    expression: Expression, order: Order, data: st.DataObject, shift: int
) -> None:
    index = data.draw(st.integers(0, len(plan(expression, order)) - 1))
    found = check(expression, corrupted(expression, order, index, shift))
    assert found.first_wrong == index
    assert not found.complete


@given(SAMPLED, ORDERS, ORDERS, st.data(), SHIFTS)
def test_finish_completes_a_corrupted_trace_to_a_right_one(
    expression: Expression, order: Order, other: Order, data: st.DataObject, shift: int
) -> None:
    """Whatever order the rest is worked out in, not only the one that the trace began with."""
    index = data.draw(st.integers(0, len(plan(expression, order)) - 1))
    text = corrupted(expression, order, index, shift)
    found = check(expression, text)
    rest = found.progress.finish(other)
    prefix = text[: found.trace.steps[index].start]
    whole = f"{prefix}{write_steps(rest, index + 1)}<answer>{expression.value}</answer>"
    assert check(expression, whole).all_right


@given(SAMPLED, ORDERS)
def test_finish_from_the_start_is_the_plan_itself(expression: Expression, order: Order) -> None:
    assert begin(expression).finish(order) == carry_out(expression, plan(expression, order))


@given(SAMPLED, ORDERS, st.data())
def test_the_order_is_read_off_the_steps(
    expression: Expression, order: Order, data: st.DataObject
) -> None:
    """The order found agrees with all the steps written, though another may agree as well."""
    equations = carry_out(expression, plan(expression, order))
    written = equations[: data.draw(st.integers(0, len(equations)))]
    found = order_of(expression, tuple(written))
    assert carry_out(expression, plan(expression, found))[: len(written)] == written


@given(SAMPLED, st.text(alphabet="0123456789+-*=<>/step_answer ", max_size=40))
def test_any_text_gets_a_verdict(expression: Expression, text: str) -> None:
    found = check(expression, text)
    assert found.trace.text == text
    assert not found.all_right or found.complete
