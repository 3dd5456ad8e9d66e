"""The audit of critiques: what is measured of one, by hand, and what is made of many.

The problem: 15 girls, 15 x 4 = 60 boys, 15 + 60 = 75 kids. The attempt's second step is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from word_problem_fixture import attempt_with, problem_with

from sdbench import traces
from sdbench.audit import (
    Finding,
    Gate,
    Judgement,
    audit,
    claimed,
    common,
    examine,
    kept,
    read_off,
    stands_for,
    summarise,
    tokens,
    verbatim,
)
from sdbench.grading import Grader
from sdbench.records import Attempt, Critique, CritiqueCase

PROBLEM = problem_with("15 girls in the field")
FIRST = "There are 15 x 4 = 60 boys."  # 9 tokens, as has the next
WRONG = "In all 15 + 60 = 65 kids."
ATTEMPT = traces.join([FIRST, WRONG], "65")
RIGHT = "In all 15 + 60 = 75 kids."
A, B, C, D = CritiqueCase


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


@pytest.fixture(scope="module")
def attempt(grader: Grader) -> Attempt:
    return attempt_with(grader, PROBLEM, ATTEMPT)


def critique(
    attempt: Attempt, *steps: str, answer: str = "75", case: CritiqueCase | None = D
) -> Critique:
    """A critique of these steps that claims what the model critic would have it claim."""
    text = traces.join(steps, answer)
    own = traces.parse(attempt.rollout.text)
    wrong = None if case is None else claimed(own, traces.parse(text), case)
    return Critique(attempt.rollout.id, "by hand", case, text, wrong)


def found(attempt: Attempt, *steps: str, truth: Judgement | None = None, **how: str) -> Finding:
    one = critique(attempt, *steps, **how)  # type: ignore[arg-type]
    return examine(attempt, one, answer_right=True, truth=truth)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15 x 4=60.", ("15", "x", "4", "=", "60", ".")),
        ("$1,234.50 is 12,34", ("$", "1234.50", "is", "12", ",", "34")),
        (r"\frac{1}{2}x^2", (r"\frac", "{", "1", "}", "{", "2", "}", "x", "^", "2")),
        ("John's <step_12>a_b</step_12>", ("John's", "<step_12>", "a", "_", "b", "</step_12>")),
        (" \n\t", ()),
    ],
)
def test_tokens_are_numbers_words_commands_tags_and_signs(
    text: str, expected: tuple[str, ...]
) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [
        ("", "abc", 0),
        ("abc", "abc", 3),
        ("abcbdab", "bdcaba", 4),
        ("aab", "azb", 2),
        ("ab", "ba", 1),
    ],
)
def test_what_two_texts_have_in_common_in_order(first: str, second: str, length: int) -> None:
    """The third is the textbook's: bcba, 4."""
    assert common(first, second) == common(second, first) == length


@pytest.mark.parametrize(
    ("copy", "share"),
    [
        (FIRST, 1),
        ("There  are 15 x 4=60 boys .", 1),  # white space is no token
        ("15 x 4 = 60 boys.", 7 / 9),  # two of nine left out
        ("So there are 15 x 4 = 60 boys.", 8 / 10),  # one added, one changed
        ("There are 15 x 4 = 61 boys.", 8 / 9),
        ("", 0),
    ],
)
def test_the_verbatim_share_counts_what_is_left_out_and_what_is_added(
    copy: str, share: float
) -> None:
    own, given = (traces.parse(traces.join([text])).steps for text in (FIRST, copy))
    assert verbatim(own, given) == pytest.approx(share)


def test_the_share_is_over_all_steps_of_the_prefix_and_each_has_its_number() -> None:
    """9 of 9 and 0 of 9; swapped, `15 60 .` or `15 = .` are in order in both: 3 of 9 each."""
    own = traces.parse(traces.join([FIRST, WRONG])).steps
    assert verbatim(own, own[:1]) == 9 / 18
    swapped = traces.parse(traces.join([WRONG, FIRST])).steps
    assert verbatim(own, swapped) == (3 + 3) / 18
    assert verbatim((), own) is None
    assert verbatim(traces.parse("<step_1> </step_1>").steps, own) is None


@pytest.mark.parametrize(
    ("given", "own", "stands"),
    [
        (FIRST, FIRST, True),
        ("So we have 15 x 4 = 60 boys.", FIRST, True),  # 7 of 10
        ("There are 15 x 4 = 61 boys.", FIRST, False),  # another figure
        ("There are 4 x 15 = 60 boys.", FIRST, False),  # another order
        ("There are 15 + 4 = 60 boys.", FIRST, False),  # another sign
        ("By what is given above, the boys in the field number 15 x 4 = 60.", FIRST, False),
        ("So n is even.", "So n is odd.", False),  # a letter, but no number and no sign
        ("The number is even.", "The number is odd.", False),  # words alone: only themselves
        ("The number is even.", "The number is even .", True),
        (r"So \\sin 3 is it.", r"So \\cos 3 is it.", False),
        ("A boy has 1,000 marbles.", "A boy has 1000 marbles", True),
    ],
)
def test_a_step_stands_for_another_that_shows_the_same_figures(
    given: str, own: str, stands: bool
) -> None:
    assert stands_for(given, own) is stands


def test_a_paraphrase_does_not_move_the_claimed_error(attempt: Attempt) -> None:
    """It is 7 of 10 tokens of the prefix instead."""
    one = critique(attempt, "So we have 15 x 4 = 60 boys.", RIGHT)
    assert one.first_wrong_step == 2
    finding = examine(attempt, one, answer_right=True)
    assert finding.verbatim == pytest.approx(7 / 10)
    assert (finding.exact, finding.quoted) == (False, False)


def test_a_step_that_never_ends_is_not_kept(grader: Grader) -> None:
    own = traces.parse(f"<step_1>{FIRST}")
    assert kept(own, traces.parse(traces.join([FIRST, RIGHT], "75"))) == 0


def test_a_faithful_critique(attempt: Attempt) -> None:
    """33 tokens by 33: four tags, 18 in two steps, two more tags and the answer: 25."""
    finding = found(attempt, FIRST, RIGHT, truth=Judgement(2, D))
    assert finding == Finding(
        rollout_id=attempt.rollout.id,
        problem_id=PROBLEM.id,
        case=D,
        true_case=D,
        faults=(),
        parsed=True,
        verbatim=1.0,
        exact=True,
        quoted=False,
        leaked=False,
        answer_right=True,
        first_error_right=True,
        case_right=True,
        tokens=25,
        ratio=1.0,
    )


def test_what_cannot_be_read_has_nothing_else_to_judge(attempt: Attempt) -> None:
    cut = Critique(attempt.rollout.id, "by hand", D, f"<step_1>{FIRST}", 2)
    unnamed = critique(attempt, FIRST, RIGHT, case=None)
    for one in (cut, unnamed):
        finding = examine(attempt, one, answer_right=True, truth=Judgement(2, D))
        assert (finding.parsed, finding.verbatim, finding.answer_right) == (False, None, None)
        assert (finding.first_error_right, finding.true_case) == (None, D)


def test_the_prefix_is_the_true_one_where_it_is_known(attempt: Attempt) -> None:
    """The critic claims step 1; known is step 2, so its change of step 1 costs 2 of 9 tokens."""
    steps = ("There are 15 x 4 = 60 girls!", RIGHT)
    one = replace(critique(attempt, *steps), first_wrong_step=1)
    assert examine(attempt, one, answer_right=True).verbatim is None
    finding = examine(attempt, one, answer_right=True, truth=Judgement(2))
    assert finding.verbatim == pytest.approx(7 / 9)
    assert (finding.first_error_right, finding.case_right) == (False, None)


def test_all_is_prefix_where_nothing_is_wrong(attempt: Attempt) -> None:
    finding = found(attempt, FIRST, RIGHT, truth=Judgement(None, A))
    assert finding.verbatim == pytest.approx(17 / 18)
    assert (finding.quoted, finding.first_error_right, finding.case_right) == (None, False, False)


@pytest.mark.parametrize(
    ("steps", "quoted"),
    [
        ((FIRST, RIGHT), False),
        ((FIRST, WRONG), True),  # copied
        ((FIRST, f"Not {WRONG} but {RIGHT}"), True),  # within the step
        ((f"{FIRST} {WRONG}", RIGHT), True),  # within another
        ((FIRST, RIGHT, WRONG), False),  # a later step of its own: may be right there
        ((FIRST, "In all 15 + 60 is not 65 kids."), False),  # no run of it
    ],
)
def test_quoting_the_wrong_step(attempt: Attempt, steps: tuple[str, ...], quoted: bool) -> None:
    assert found(attempt, *steps, truth=Judgement(2)).quoted is quoted


def test_few_tokens_are_quoted_only_by_their_own_step(grader: Grader) -> None:
    """`x = 3` are three tokens; `x = 3 / 2` holds them by chance."""
    attempt = attempt_with(grader, PROBLEM, traces.join(["x = 3"], "65"))
    assert found(attempt, "So x = 3 / 2", truth=Judgement(1)).quoted is False
    assert found(attempt, "x=3", truth=Judgement(1)).quoted is True


@pytest.mark.parametrize("text", [f"<step_1>{FIRST}</step_1><step_2>{WRONG}", traces.join([FIRST])])
def test_what_was_not_written_to_its_end_cannot_be_quoted(grader: Grader, text: str) -> None:
    attempt = attempt_with(grader, PROBLEM, text, cut=True)
    finding = found(attempt, FIRST, f"{WRONG} {RIGHT}", truth=Judgement(2))
    assert finding.quoted is None


@pytest.mark.parametrize(
    ("step", "leaked"),
    [
        (FIRST, False),
        ("There are 15 x 4 = 60 boys, 75 kids.", True),
        ("There are 15 x 4 = 60 boys, $75.00.", False),  # another number
        ("There are 15 x 4 = 60 boys, 175 kids.", False),
    ],
)
def test_the_answer_in_a_correct_step_is_a_leak(attempt: Attempt, step: str, leaked: bool) -> None:
    assert found(attempt, step, RIGHT, truth=Judgement(2)).leaked is leaked


def test_what_the_problem_or_the_attempt_says_is_no_leak(grader: Grader, attempt: Attempt) -> None:
    said = "There are 15 x 4 = 60 boys, 75 kids."
    known = replace(attempt, problem=replace(PROBLEM, prompt=f"{PROBLEM.prompt} Is it 75?"))
    assert found(known, said, RIGHT, truth=Judgement(2)).leaked is False
    own = attempt_with(grader, PROBLEM, traces.join([said, WRONG], "65"))
    assert found(own, said, RIGHT, truth=Judgement(2)).leaked is False
    assert found(attempt, RIGHT, truth=Judgement(1)).leaked is None  # no prefix, so no place


@pytest.mark.parametrize(
    ("own", "given", "case"),
    [
        (ATTEMPT, traces.join([FIRST, WRONG], "65"), A),
        (ATTEMPT, traces.join([FIRST, WRONG], "75"), D),  # another answer
        (ATTEMPT, traces.join([FIRST, RIGHT], "75"), D),
        (ATTEMPT, traces.join([FIRST, WRONG, RIGHT], "65"), D),  # another step
        (traces.join([FIRST]), traces.join([FIRST, RIGHT], "75"), C),
        (f"<step_1>{FIRST}</step_1><step_2>15 +", traces.join([FIRST, RIGHT], "75"), C),
        (traces.join([FIRST, WRONG]), traces.join([FIRST, RIGHT], "75"), D),
        ("", traces.join([FIRST, RIGHT], "75"), C),
    ],
)
def test_a_case_that_nobody_names_is_read_off(own: str, given: str, case: CritiqueCase) -> None:
    assert read_off(traces.parse(own), traces.parse(given)) is case


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, ()),
        ({"verbatim": 0.9}, ()),
        ({"verbatim": 0.89}, ("inexact",)),
        ({"verbatim": None, "quoted": None, "leaked": None, "answer_right": None}, ()),
        (
            {"quoted": True, "answer_right": False, "leaked": True},
            ("quoted", "wrong_answer", "leak"),
        ),
        ({"parsed": False}, ("unparsable",)),
    ],
)
def test_the_gate_names_what_it_holds_against_a_critique(
    attempt: Attempt, changes: dict[str, object], faults: tuple[str, ...]
) -> None:
    finding = replace(found(attempt, FIRST, RIGHT), **changes)  # type: ignore[arg-type]
    assert Gate().faults(finding) == faults
    open_ = Gate(verbatim=0, refuse=())
    assert open_.faults(finding) == (("unparsable",) if "parsed" in changes else ())


def finding_of(problem: str, number: int, **values: object) -> Finding:
    one = Finding(f"{problem}#{number}", problem, D, None, (), parsed=True)
    return replace(one, **values)  # type: ignore[arg-type]


def test_shares_are_means_over_problems_with_clustered_intervals() -> None:
    """Problem p: (1 + 0 + 0.5) / 3 = 0.5, q: 1; their mean 0.75, and its error 0.25.

    sqrt(2 x 0.25^2 / (2 x 1)) = 0.25. Over critiques it would be 2.5 / 4 = 0.625.
    """
    findings = [
        finding_of("p", 0, verbatim=1.0),
        finding_of("p", 1, verbatim=0.0),
        finding_of("p", 2, verbatim=0.5),
        finding_of("p", 3),
        finding_of("q", 0, verbatim=1.0),
    ]
    row = summarise(findings, attempts=7)
    assert (row["attempts"], row["critiques"], row["problems"]) == (7, 5, 2)
    share = _row(row["shares"], "verbatim")
    assert (share["value"], share["standard_error"]) == (0.75, 0.25)
    assert (share["problems"], share["critiques"]) == (2, 4)
    assert isinstance(row["shares"], dict) and row["shares"]["quoted"] is None


def test_a_share_of_all_or_none_has_an_interval_still() -> None:
    """Of 4 problems none quotes: 1 - 0.025^(1/4) = 0.602 could have stayed unseen; a length has none."""
    findings = [finding_of(str(n), 0, quoted=False, exact=True, ratio=1.5) for n in range(4)]
    row = summarise(findings, attempts=4)
    quoted, exact = (_row(row["shares"], name) for name in ("quoted", "exact"))
    assert (quoted["low"], quoted["high"]) == (0.0, pytest.approx(0.602, abs=1e-3))
    assert (exact["low"], exact["high"]) == (pytest.approx(0.398, abs=1e-3), 1.0)
    assert _row(row["lengths"], "ratio")["high"] == 1.5


def _row(table: object, name: str) -> dict[str, object]:
    assert isinstance(table, dict)
    found = table[name]
    assert isinstance(found, dict)
    return found


def test_cases_are_counted_and_confused_where_the_true_one_is_known() -> None:
    findings = [
        finding_of("p", 0, true_case=A, case=A),
        finding_of("p", 1, true_case=A, case=D, faults=("inexact", "quoted")),
        finding_of("p", 2, true_case=D, case=None, parsed=False, faults=("unparsable",)),
        finding_of("p", 3, case=C, faults=("quoted",)),
    ]
    row = summarise(findings, attempts=4)
    assert row["cases"] == {"A": 1, "C": 1, "D": 1, "none": 1}
    assert row["confusion"] == {"A": {"A": 1, "D": 1}, "D": {"none": 1}}
    assert row["faults"] == {"inexact": 1, "quoted": 2, "unparsable": 1}


def test_answers_are_the_graders_to_judge(attempt: Attempt, grader: Grader) -> None:
    """The problem's answer is 75, however it is written; without a right answer nothing is said."""
    boxed = critique(attempt, FIRST, RIGHT, answer="\\boxed{75}")
    wrong = replace(critique(attempt, FIRST, RIGHT, answer="65"), rollout_id="b")
    unknown = replace(boxed, rollout_id="c")
    attempts = [attempt, renamed(attempt, "b"), renamed(attempt, "c")]
    attempts[2] = replace(attempts[2], problem=replace(PROBLEM, answer=""))
    findings = audit(attempts, [wrong, unknown, boxed], grader, {"b": Judgement(2, D)})
    assert [one.answer_right for one in findings] == [False, None, True]
    assert [one.first_error_right for one in findings] == [True, None, None]


def test_agreement_with_aligned_has_a_name_of_its_own(attempt: Attempt, grader: Grader) -> None:
    opinion = {attempt.rollout.id: Judgement(1, D)}
    (finding,) = audit([attempt], [critique(attempt, FIRST, RIGHT)], grader, {}, opinion)
    assert (finding.agrees_on_first_error, finding.agrees_on_case) == (False, True)
    assert (finding.first_error_right, finding.case_right, finding.true_case) == (None, None, None)


def renamed(attempt: Attempt, name: str) -> Attempt:
    rollout = replace(attempt.rollout, id=name)
    return replace(attempt, rollout=rollout, verdict=replace(attempt.verdict, id=name))
