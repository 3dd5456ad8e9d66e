"""Equations in prose: which are found, what they come to, and which are false."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.worked.equations import numbers, read


def values(text: str) -> list[tuple[bool, list[str]]]:
    """Truth and results of each equation."""
    return [(one.true, sorted(map(str, one.results))) for one in read(text)]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Michael has 271 oranges + 253 oranges = 524 oranges.", "524"),
        ("He paid $820000 x 2/100 = $16400 for the fees.", "16400"),
        ("The fee is $350,000 x 7/100 = $24,500.", "24500"),
        ("There are 15 girls x 4 boys/girl = 60 boys in the field.", "60"),
        (
            "every week and works for 3 weeks so for 7 days/week * 3 weeks/month = 21 days/month",
            "21",
        ),
        ("is 111 total students - 4 dance - 9 tennis - 18 play video games = 80", "80"),
        ("25 yards * (3 feet / 1 yards) = 75 feet", "75"),
        ("The perimeter is 2(79+75) = 308", "308"),
        ("Warm water kilometer = 8+2(12)=32 minutes", "32"),
        ("is half * 114 grasshoppers = 57 bees", "57"),
        ("450/225 of a serving = 2 of a serving", "2"),
        ("12 (boys) + 5 (girls) = 17 kids", "17"),
        ("That is 20% of 50 = 10", "10"),
        ("So 3 times 5 = 15", "15"),
        ("2 1/2 * 4 = 10", "10"),
        ("- 4 * 5 = 20 as an item of a list", "20"),
        ("-3 + 5 = 2", "2"),
        (r"\(\frac{1}{2} \times 30 = 15\)", "15"),
        (r"\[7 \cdot 10 \text{ cakes} = 70\]", "70"),
        ("12 plus 5 equals 17", "17"),
        ("4x3=12", "12"),
        ("That is 2 * 30 = 60 minutes = 1 hour", "1"),
    ],
)
def test_an_equation_is_found_and_true(text: str, result: str) -> None:
    assert values(text) == [(True, [result])]


@pytest.mark.parametrize(
    "text",
    [
        "He has 271 + 253 = 525 oranges",
        "0.56*40 = 22 students",  # 22.4: a whole number is never taken for a rounded one
        "7/2 = 3",
        "3 * $12.5 = $37",
        r"\(15 \times 4 = 61\)",
        "12 (boys) + 5 (girls) = 18",
        "3.45 * 3 = 10.36",  # 10.35 is one in the last place away, and rounding comes nearer
        "0.4 * 1 = 33.3%",
        "20 - 6 = 14 = 7 * 3",
    ],
)
def test_a_false_equation_is_called_false(text: str) -> None:
    assert [one.true for one in read(text)] == [False]


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("360 / 1440 * 100% = 25%", ["1/4", "25"]),
        ("8 / 10 = 80%", ["4/5", "80"]),
        ("50% * 50% = 25%", ["1/4", "25"]),
        ("80% - 25% = 55%", ["11/20", "55"]),
        ("12÷1/2=24", ["24"]),
        ("12÷1/2=6", ["6"]),
        ("5*3 = 15+2 = 17", ["17"]),
        ("1/3 = 0.33", ["33/100"]),
        ("2/3 = 0.66", ["33/50"]),
        ("2/3 = 0.67", ["67/100"]),
        ("7/2 ≈ 4", ["4"]),
    ],
)
def test_what_reads_in_more_than_one_way_is_true_if_one_is(text: str, results: list[str]) -> None:
    assert values(text) == [(True, results)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "y = x + 180, and y + x = 272.",
        "Substituting, we get 2x+180=272",
        "2 x = 92",
        "70 + 44 + 28 + T = 142 + T = 170 toys",
        "W = 8 episodes",
        "1 hour = 60 minutes",
        "Day 3 = 15",
        "5 million * 2 = 3",
        "2^3 = 9",
        "5/0 = 3",
        "x >= 3 + 4",
        "a 10-sided die and 3 + 4",
    ],
)
def test_what_cannot_be_checked_is_no_equation(text: str) -> None:
    assert read(text) == ()


def test_a_sentence_may_hold_two_equations_and_a_chain() -> None:
    """576 * 5 = 2880 and 576 + 2880 = 3456; then 12 * 2 - 9 = 15 with 24 on the way."""
    text = "On day three 576 * 5 = 2880 more. So there are 576 + 2880 = 3456. Or 12 * 2 - 9 = 15."
    first, second, third = read(text)
    assert first.results == {2880}
    assert second.results == {3456}
    assert second.operands == {576, 2880}
    assert third.values == {24, 15}
    (chain,) = read("T = 170 - 142 = 28 = 4 * 7 bouncy balls")
    assert [sorted(side.values) for side in chain.sides] == [[28], [28], [28]]
    assert chain.operands == {170, 142, 4, 7}


def test_numbers_of_a_text() -> None:
    """A percentage counts as hundredths too, an ordinal not at all."""
    assert numbers("The 2nd of 1,250 takes 12.5% off") == {
        1250,
        Fraction("12.5"),
        Fraction("0.125"),
    }


@given(st.integers(1, 10**6), st.sampled_from("+-*/"), st.integers(1, 10**6), st.integers(-9, 9))
def test_a_plain_equation_is_true_just_if_it_is(a: int, sign: str, b: int, off: int) -> None:
    value = {"+": Fraction(a + b), "-": Fraction(a - b), "*": Fraction(a * b)}.get(
        sign, Fraction(a, b)
    )
    if value.denominator == 1 and value + off >= 0:
        (found,) = read(f"So he has {a} {sign} {b} = {value + off} of them.")
        assert found.true == (off == 0)


@given(st.text(alphabet="0123456789+-*/=()%$x. ,:\nabof½", max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    for one in read(text):
        assert one.values >= one.results
        assert len(one.sides) > 1


@pytest.mark.parametrize(
    "text", ["(" * 3000, "1+" * 3000 + "1=2", "9" * 6000 + "+1=2", "(1+" * 1000, "1/2/" * 500]
)
def test_a_solver_that_goes_round_in_circles_is_not_read(text: str) -> None:
    """Python itself stops at 1,000 nested calls and at 4,300 digits."""
    assert read(text) == ()
