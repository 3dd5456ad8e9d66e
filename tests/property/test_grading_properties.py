"""What holds for all answers: round trips, reflexivity, idempotence, independence of order and batch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.grading import Answer, Grader, canonical, exact, extract_answer
from sdbench.records import FinishReason, Verdict

STOP = FinishReason.STOP

plain = st.text(st.characters(codec="utf-8", exclude_characters="{}\\<"), max_size=12)
balanced = st.recursive(
    plain,
    lambda inner: st.builds(lambda *parts: "{}{{{}}}{}".format(*parts), inner, inner, inner),
    max_leaves=20,
).filter(str.strip)
pieces = (
    *(
        "1",
        "2",
        "10",
        "x",
        "y",
        "a",
        "\\pi",
        "\\frac{1}{2}",
        "\\sqrt{3}",
        "+",
        "-",
        "^",
        "^{2}",
        "(",
        ")",
    ),
    *(
        "\\{",
        "\\}",
        "[",
        "]",
        ",",
        "=",
        "<",
        "\\leq",
        "\\text{or}",
        " ",
        "\\text{cm}",
        "%",
        "\\%",
        "\\circ",
    ),
    *(
        "\\pm",
        ":",
        "!",
        "_",
        "/",
        ".",
        "$",
        "\\$",
        "|",
        "&",
        "\\\\",
        "\\left(",
        "\\right)",
        "\\infty",
    ),
)
formula = st.lists(st.sampled_from(pieces), max_size=10).map("".join)
number = st.fractions(max_denominator=1000)
ANSWERS = (
    *(
        "7",
        "-7",
        "0.5",
        "\\frac{1}{3}",
        "50\\%",
        "5\\text{ cm}",
        "\\text{Yes}",
        "C",
        "4:30",
        "1101_2",
    ),
    *("\\sqrt{8}", "x^2-1", "(1,2)", "\\{1,2\\}", "1,2", "[1,2)", "x>3", "\\pm 2", "x=5", "3:4"),
    *("2\\sqrt{2}", "(x-1)(x+1)", "2,1", "1\\le x<2", "3<x", "2,-2", "5", "\\frac{3}{4}", "(10^9)"),
)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_seconds=60.0, workers=2) as one:
        yield one


@given(balanced)
def test_the_content_of_a_box_comes_back(content: str) -> None:
    assert extract_answer(f"We find \\boxed{{{content}}}, as wanted.") == content.strip()


@given(balanced, balanced)
def test_the_last_box_counts(first: str, last: str) -> None:
    response = f"\\boxed{{{first}}} was wrong, so we correct it: \\boxed{{{last}}}."
    assert extract_answer(response) == last.strip()


@given(balanced)
def test_the_content_of_the_tags_comes_back(content: str) -> None:
    assert extract_answer(f"5 <answer>{content}</answer>") == content.strip()


@given(st.text())
def test_nothing_inside_the_reasoning_counts(text: str) -> None:
    assert extract_answer(f"<think>{text.replace('think', '')}\\boxed{{1}}") is None


@given(st.one_of(st.text(), formula, balanced))
def test_the_canonical_form_is_idempotent(answer: str) -> None:
    assert canonical(canonical(answer)) == canonical(answer)


@given(st.one_of(st.text(min_size=1), formula))
def test_an_answer_equals_itself(answer: str) -> None:
    assert exact.decide(canonical(answer), canonical(answer)) is True


@given(st.one_of(st.text(), formula), st.one_of(st.text(), formula))
def test_the_exact_path_never_raises(gold: str, answer: str) -> None:
    assert exact.decide(canonical(gold), canonical(answer)) in (True, False, None)


@given(st.integers(), st.integers(0, 3))
def test_every_spelling_of_an_integer_is_that_integer(n: int, zeros: int) -> None:
    sign = "-" if n < 0 else ""
    padded = f"{sign}{'0' * zeros}{abs(n)}"
    spellings = [padded, f"{n:,}", f"${n}$", f"\\text{{{n}}}", f"{n}.", f"{n}.0", f" {n}\n"]
    assert {canonical(spelling) for spelling in spellings} == {str(n)}


@given(number, number)
def test_fractions_are_equal_exactly_if_their_values_are(a: Fraction, b: Fraction) -> None:
    def latex(value: Fraction, factor: int) -> str:
        return f"\\frac{{{value.numerator * factor}}}{{{value.denominator * factor}}}"

    assert exact.decide(canonical(latex(a, 2)), canonical(latex(b, 3))) is (a == b)


@given(st.integers(-(10**40), 10**40), st.integers(1, 30))
def test_decimals_are_compared_to_their_last_digit(digits: int, places: int) -> None:
    """digits / 10^places and the next decimal differ, however many digits agree."""

    def decimal(scaled: int) -> str:
        whole, rest = divmod(abs(scaled), 10**places)
        return f"{'-' if scaled < 0 else ''}{whole}.{rest:0{places}d}1"

    one, next_one = canonical(decimal(digits)), canonical(decimal(digits + 1))
    assert exact.decide(one, one) is True
    assert exact.decide(one, next_one) is False


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_kind_of_answer_equals_itself_in_other_words(grader: Grader, answer: str) -> None:
    """The space keeps the two texts apart until they are spelled, and the worker if it is asked."""
    assert verdict_on(grader, Answer("a", f"\\boxed{{ {answer} }}", answer, STOP)).correct


def test_verdicts_depend_on_neither_order_nor_batch(grader: Grader) -> None:
    """One by one, all at once, and shuffled: the same verdict for each of 841 pairs."""
    items = [
        Answer(f"{gold} / {answer}", f"\\boxed{{{answer}}}", gold, STOP)
        for gold in ANSWERS
        for answer in ANSWERS
    ]
    at_once = grader.grade(items)
    shuffled = random.Random(0).sample(items, len(items))
    with Grader(timeout_seconds=60.0, workers=1) as other:
        singly = [verdict_on(other, item) for item in shuffled]
    assert {v.id: v for v in singly} == {v.id: v for v in at_once}
    assert sum(verdict.correct for verdict in at_once) > len(ANSWERS)


def verdict_on(grader: Grader, item: Answer) -> Verdict:
    (verdict,) = grader.grade([item])
    return verdict
