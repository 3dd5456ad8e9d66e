"""What every critique keeps to, over corrupted and cut traces of generated problems."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sdbench.arithmetic.checker import check
from sdbench.arithmetic.expression import Expression, Operator, apply, sample
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.critics import aligned, oracle
from sdbench.critics.base import CriticSurroundings
from sdbench.records import Attempt, Critique, CritiqueCase

MakeAttempt = Callable[[Expression, str, int], Attempt]

SAMPLED = st.integers(0, 2**32).map(lambda seed: sample(random.Random(seed)))
ORDERS = st.sampled_from(Order)


def critique(attempt_at: MakeAttempt, problem: Expression, text: str) -> Critique:
    (found,) = oracle.build(oracle.Config(), CriticSurroundings("organism")).critique(
        [attempt_at(problem, text, 0)]
    )
    return found


def with_errors(problem: Expression, order: Order, seed: int, rate: float) -> str:
    """A solution in which each result is wrong with this probability, errors carried on."""
    rng = random.Random(seed)

    def compute(left: int, operator: Operator, right: int) -> int:
        value = apply(left, operator, right)
        return (value + rng.randint(1, 9)) % 10 if rng.random() < rate else value

    return write_solution(carry_out(problem, plan(problem, order), compute))


TRACES = st.tuples(SAMPLED, ORDERS, st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.6])).map(
    lambda drawn: (drawn[0], with_errors(*drawn))
)


@given(TRACES, st.floats(0, 1))
def test_a_critique_is_fully_right_and_begins_with_the_correct_prefix(
    attempt_at: MakeAttempt, trace: tuple[Expression, str], cut: float
) -> None:
    problem, whole = trace
    for text in (whole, whole[: int(cut * len(whole))]):
        found = critique(attempt_at, problem, text)
        assert check(problem, found.text).all_right
        assert found.text.endswith(f"<answer>{problem.value}</answer>")
        checked = check(problem, text)
        right = checked.trace.steps[: checked.first_wrong]
        prefix = text[: right[-1].end] if right else ""
        assert found.text.startswith(prefix)


@given(TRACES)
def test_a_wrong_step_is_never_quoted(
    attempt_at: MakeAttempt, trace: tuple[Expression, str]
) -> None:
    """A false equation stands nowhere in the critique, wherever it stood in the trace."""
    problem, text = trace
    found = critique(attempt_at, problem, text)
    checked = check(problem, text)
    for equation in checked.equations:
        assert equation is not None
        if equation.result != apply(equation.left, equation.operator, equation.right):
            assert str(equation) not in found.text
    if checked.first_wrong is not None:
        wrong = checked.trace.steps[checked.first_wrong]
        assert text[wrong.start : wrong.end] not in found.text


@given(TRACES)
def test_case_and_step_agree_with_the_checker(
    attempt_at: MakeAttempt, trace: tuple[Expression, str]
) -> None:
    problem, text = trace
    found = critique(attempt_at, problem, text)
    checked = check(problem, text)
    if checked.all_right:
        assert (found.case, found.first_wrong_step) == (CritiqueCase.CORRECT, None)
        assert found.text == text
    else:
        assert checked.first_wrong is not None
        assert found.case is CritiqueCase.INCORRECT
        assert found.first_wrong_step == checked.first_wrong + 1


@given(SAMPLED, st.text(alphabet="0123456789+-*=<>/step_answer ", max_size=60))
def test_any_text_gets_a_right_critique(
    attempt_at: MakeAttempt, problem: Expression, text: str
) -> None:
    found = critique(attempt_at, problem, text)
    assert check(problem, found.text).all_right
    assert (found.first_wrong_step is None) == (found.case is CritiqueCase.CORRECT)


@given(TRACES, st.floats(0, 1))
def test_aligned_finds_the_same_and_goes_on_by_true_steps_to_the_answer(
    attempt_at: MakeAttempt, trace: tuple[Expression, str], cut: float
) -> None:
    """Every equation is true and the last one comes to the answer, in whatever order."""
    problem, whole = trace
    text = whole[: round(cut * len(whole))]
    attempt = attempt_at(problem, text, 0)
    (exact,) = oracle.Oracle().critique([attempt])
    (found,) = aligned.Aligned().critique([attempt])
    assert (found.case, found.first_wrong_step) == (exact.case, exact.first_wrong_step)
    read = check(problem, found.text)
    assert read.answer_right and read.trace.well_formed
    assert None not in read.equations
    assert all(e and e.result == apply(e.left, e.operator, e.right) for e in read.equations)
    assert str(read.equations[-1]).endswith(f"={problem.value}")
    assert len(read.equations) == len(check(problem, exact.text).equations)
