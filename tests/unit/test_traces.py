"""Traces by hand, and character spans matched to token spans."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sdbench.models import Model
from sdbench.traces import RUN, parse, step_roles, token_ends, token_span


def test_a_whole_trace() -> None:
    """The tag `<step_1>` has 8 characters, its closing tag 9, so step 1 ends at 8 + 5 + 9 = 22."""
    text = "<step_1>1+2=3</step_1> <step_2>3+4=7</step_2>\n<answer> 7 </answer>\n"
    trace = parse(text)
    assert [(s.number, s.content, s.start, s.end) for s in trace.steps] == [
        (1, "1+2=3", 0, 22),
        (2, "3+4=7", 23, 45),
    ]
    assert trace.answer == "7"
    assert trace.end == len(text) - 1
    assert trace.well_formed


@pytest.mark.parametrize(
    ("text", "contents", "closed"),
    [
        ("<step_1>1+2=3</step_1><step_2>3+", ["1+2=3", "3+"], [True, False]),
        ("<step_1>1+2<step_2>3</step_2>", ["1+2"], [False]),
        ("<step_1>1+2</step_2>", ["1+2"], [False]),
        ("<step_1>a</step_1><step_3>b</step_3>", ["a"], [True]),
        ("<step_2>a</step_2>", [], []),
        ("x<step_1>a</step_1>", [], []),
        ("<step_1>", [""], [False]),
    ],
)
def test_reading_stops_at_the_first_break(
    text: str, contents: list[str], closed: list[bool]
) -> None:
    trace = parse(text)
    assert [step.content for step in trace.steps] == contents
    assert [step.closed for step in trace.steps] == closed
    assert trace.answer is None
    assert not trace.well_formed


def test_an_answer_without_steps_is_read_but_not_well_formed() -> None:
    trace = parse("<answer>7</answer>")
    assert (trace.steps, trace.answer, trace.well_formed) == ((), "7", False)


def test_an_answer_after_an_unclosed_step_is_not_read() -> None:
    assert parse("<step_1>1+2=3<answer>3</answer>").answer is None


def test_a_tag_with_an_endless_number_is_no_step() -> None:
    """A solver that repeats itself can write this; `parse` promises a trace for any text."""
    assert parse(f"<step_{'1' * 5000}>a").steps == ()


def test_a_less_than_sign_is_no_tag() -> None:
    """`closed` is documented as False only if another *tag* opens before the closing one."""
    assert parse("<step_1>2<3</step_1>").steps[0].closed


def test_token_ends_with_the_organisms_tokenizer(organism: Model) -> None:
    """One token a tag and a character: 8, 9, ..., the closing tag of 9 characters last."""
    ids = organism.tokenizer.encode("<step_1>4*6=4</step_1>", add_special_tokens=False)
    ends = token_ends(ids, organism.decode)
    assert ends == [8, 9, 10, 11, 12, 13, 22]
    assert token_span(ends, 8, 13) == range(1, 6)
    assert token_span(ends, 0, 22) == range(7)


def decode_bytes(token_ids: Sequence[int]) -> str:
    """A byte-level tokenizer: token i is byte i; incomplete characters show as U+FFFD."""
    return bytes(token_ids).decode("utf-8", errors="replace")


def test_a_character_of_several_tokens_ends_with_its_last_token() -> None:
    """`aé€b` is 1 + 2 + 3 + 1 bytes; é is complete at byte 3, € at byte 6."""
    ends = token_ends(list("aé€b".encode()), decode_bytes)
    assert ends == [1, 1, 2, 2, 2, 3, 4]
    assert token_span(ends, 0, 1) == range(0, 1)
    assert token_span(ends, 3, 4) == range(6, 7)
    assert token_span(ends, 2, 3) == range(5, 6)


def test_a_text_cut_within_a_character_still_has_all_its_tokens() -> None:
    """The last of the three bytes of € is missing; the whole text decodes to `a` and U+FFFD."""
    ids = list("a€".encode())[:-1]
    assert token_ends(ids, decode_bytes)[-1] == len(decode_bytes(ids))


def test_an_empty_span_has_no_tokens() -> None:
    assert token_span([1, 2, 3], 2, 2) == range(0)
    assert token_ends([], decode_bytes) == []


def test_no_tokens_have_no_span() -> None:
    assert token_span([], 0, 1) == range(0)


def test_long_completions_are_not_decoded_again_and_again() -> None:
    """Each token is decoded within runs of at most twice 32 + 8: 40 times, however long the text."""
    decoded = 0

    def decode(token_ids: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(token_ids)
        return decode_bytes(token_ids)

    ids = list(("a€" * 1000).encode())
    ends = token_ends(ids, decode)
    assert ends[-1] == 2000
    assert decoded < 2 * RUN * len(ids)


TEXT = "<step_1>1+2=3</step_1><step_2>3*4=8</step_2><step_3>8-1=7</step_3><answer>7</answer>"
# One token a tag and a character, as the organism writes: 7 tokens a step, 3 for the answer, one
# that ends the completion and writes nothing.
ENDS = [
    *(8, 9, 10, 11, 12, 13, 22),
    *(30, 31, 32, 33, 34, 35, 44),
    *(52, 53, 54, 55, 56, 57, 66),
    *(74, 75, 84),
    84,
]


@pytest.mark.parametrize(
    ("first_wrong", "correct", "wrong", "later"),
    [
        (None, 25, 0, 0),
        (1, 0, 7, 18),
        (2, 7, 7, 11),
        (3, 14, 7, 4),
        (4, 21, 0, 4),  # every step is right, the answer or a missing step is not
    ],
)
def test_roles_by_hand(first_wrong: int | None, correct: int, wrong: int, later: int) -> None:
    """The tokens of step 2 are 7 to 13; what follows it is later, the end included."""
    expected = ("correct",) * correct + ("first_wrong",) * wrong + ("later",) * later
    assert step_roles(TEXT, ENDS, first_wrong) == expected


def test_roles_with_the_organisms_tokenizer(organism: Model) -> None:
    ids = [*organism.tokenizer.encode(TEXT, add_special_tokens=False), organism.end_ids[0]]
    assert token_ends(ids, organism.decode) == ENDS


def test_roles_of_a_text_that_is_cut_or_has_no_steps() -> None:
    """The second step, wrong, is cut; a text without steps is later throughout."""
    cut = TEXT[:34]
    roles = step_roles(cut, ENDS[:11], 2)
    assert roles == ("correct",) * 7 + ("first_wrong",) * 4
    assert step_roles("no", [1, 2], 1) == ("later", "later")
    assert step_roles("", [], 1) == ()


def test_a_token_that_reaches_into_the_wrong_step_belongs_to_it() -> None:
    """A tokenizer may write the end of one step and the start of the next in one token."""
    text = "<step_1>a</step_1><step_2>b</step_2>"
    ends = [9, 20, 27, 36]  # the second token ends within <step_2>
    assert step_roles(text, ends, 2) == ("correct", "first_wrong", "first_wrong", "first_wrong")
    assert step_roles(text, ends, 1) == ("first_wrong", "first_wrong", "later", "later")


def test_a_step_that_is_right_after_a_gap_is_later_and_not_the_wrong_one() -> None:
    """Of TEXT nothing is wrong written at step 2: what follows step 1 is later."""
    roles = step_roles(TEXT, ENDS, 2, written=False)
    assert roles == ("correct",) * 7 + ("later",) * (len(ENDS) - 7)


def test_thoughts_have_a_role_of_their_own_and_do_not_hide_the_steps() -> None:
    """The tokens of what is said have the roles that they would have without the thoughts."""
    thoughts = "<think>4*6=5?</think>\n\n"
    ends = [*range(1, len(thoughts) + 1), *(len(thoughts) + end for end in ENDS)]
    expected = ("thought",) * len(thoughts) + step_roles(TEXT, ENDS, 2)
    assert step_roles(thoughts + TEXT, ends, 2) == expected
    assert step_roles("<think>4*6", [7, 8, 9, 10], 1) == ("thought",) * 4
