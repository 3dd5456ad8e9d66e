"""The oracle's four cases by hand.

Case B is reachable: right steps, some of them left out, and the right answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sdbench.arithmetic.expression import Expression, parse
from sdbench.critics import aligned, oracle
from sdbench.critics.base import CriticSurroundings
from sdbench.errors import CriticError
from sdbench.records import Attempt, Critique, CritiqueCase

MakeAttempt = Callable[[Expression, str, int], Attempt]

# 4*6=4, 4+3=7, 7-5=2, 7*2=4, 2+4=6.
PROBLEM = parse("4*6+3-5+7*2")
STEPS = ("4*6=4", "4+3=7", "7-5=2", "7*2=4", "2+4=6")


def written(*steps: str, answer: str | None = None) -> str:
    tagged = "".join(f"<step_{n}>{step}</step_{n}>" for n, step in enumerate(steps, 1))
    return tagged if answer is None else f"{tagged}<answer>{answer}</answer>"


WHOLE = written(*STEPS, answer="6")


def critique(attempt_at: MakeAttempt, text: str) -> Critique:
    (found,) = oracle.build(oracle.Config(), CriticSurroundings("organism")).critique(
        [attempt_at(PROBLEM, text, 0)]
    )
    assert found.rollout_id == "4*6+3-5+7*2#0"
    assert (found.critic, found.tokens) == ("oracle", 0)
    return found


def test_case_a_a_right_solution_is_its_own_critique(attempt_at: MakeAttempt) -> None:
    found = critique(attempt_at, WHOLE)
    assert (found.case, found.first_wrong_step, found.text) == (CritiqueCase.CORRECT, None, WHOLE)


def test_case_a_leaves_out_what_follows_the_answer(attempt_at: MakeAttempt) -> None:
    assert critique(attempt_at, WHOLE + "<step_6>6+0=6").text == WHOLE


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_case_b_right_answer_with_steps_left_out(attempt_at: MakeAttempt, kept: int) -> None:
    """Even without any step: the answer alone is unjustified, and step 1 is the missing one."""
    found = critique(attempt_at, written(*STEPS[:kept], answer="6"))
    assert found.case is CritiqueCase.UNJUSTIFIED
    assert found.first_wrong_step == kept + 1
    assert found.text == WHOLE


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("", 1),
        (written(*STEPS[:2]), 3),
        (written(*STEPS), 6),
        (written(*STEPS[:2]) + "<step_3>7-", 3),
        (written(*STEPS[:2]) + "<step_3>9-9=", 3),
        (written(*STEPS) + "<answer>", 6),
    ],
)
def test_case_c_cut_short_without_a_wrong_step(
    attempt_at: MakeAttempt, text: str, step: int
) -> None:
    found = critique(attempt_at, text)
    assert (found.case, found.first_wrong_step) == (CritiqueCase.INCOMPLETE, step)
    assert found.text == WHOLE


def test_case_d_a_wrong_step_is_replaced_and_the_rest_worked_out(attempt_at: MakeAttempt) -> None:
    """7-5=3 is wrong; what was carried on from it (3+4=7) goes as well."""
    found = critique(attempt_at, written(*STEPS[:2], "7-5=3", "7*2=4", "3+4=7", answer="7"))
    assert (found.case, found.first_wrong_step, found.text) == (CritiqueCase.INCORRECT, 3, WHOLE)


def test_case_d_a_wrong_step_with_a_lucky_answer(attempt_at: MakeAttempt) -> None:
    found = critique(attempt_at, written("4*6=5", answer="6"))
    assert (found.case, found.first_wrong_step, found.text) == (CritiqueCase.INCORRECT, 1, WHOLE)


def test_case_d_right_steps_with_a_wrong_answer(attempt_at: MakeAttempt) -> None:
    """All five steps are right, so the sixth thing to write, the answer, is the wrong one."""
    found = critique(attempt_at, written(*STEPS, answer="5"))
    assert (found.case, found.first_wrong_step, found.text) == (CritiqueCase.INCORRECT, 6, WHOLE)


def test_case_d_right_steps_left_out_and_a_wrong_answer(attempt_at: MakeAttempt) -> None:
    found = critique(attempt_at, written(*STEPS[:3], answer="2"))
    assert (found.case, found.first_wrong_step, found.text) == (CritiqueCase.INCORRECT, 4, WHOLE)


def test_a_wrong_step_and_no_answer_is_case_d(attempt_at: MakeAttempt) -> None:
    assert critique(attempt_at, written("4*6=5", "5+3=8")).case is CritiqueCase.INCORRECT


def test_the_correction_goes_on_in_the_order_that_was_begun(attempt_at: MakeAttempt) -> None:
    """Products from the last: 7*2 first, so 4*6 comes next and not 4+3."""
    found = critique(attempt_at, written("7*2=4", "4*6=9"))
    assert found.text == written("7*2=4", "4*6=4", "4+3=7", "7-5=2", "2+4=6", answer="6")


def test_white_space_between_right_steps_is_kept(attempt_at: MakeAttempt) -> None:
    text = "<step_1>4*6=4</step_1> <step_2>4+3=7</step_2> <step_3>7-5=3</step_3>"
    assert critique(attempt_at, text).text.startswith(
        "<step_1>4*6=4</step_1> <step_2>4+3=7</step_2> <step_3>7-5=2</step_3>"
    )


def test_critiques_come_in_order_of_attempts(attempt_at: MakeAttempt) -> None:
    attempts = [attempt_at(PROBLEM, WHOLE, index) for index in (2, 0, 1)]
    found = oracle.build(oracle.Config(), CriticSurroundings("organism")).critique(attempts)
    assert [one.rollout_id for one in found] == [a.rollout.id for a in attempts]


def test_a_task_without_a_checker_is_refused_by_name(attempt_at: MakeAttempt) -> None:
    attempt = attempt_at(PROBLEM, WHOLE, 0)
    other = dataclasses.replace(attempt, problem=dataclasses.replace(attempt.problem, task="gsm8k"))
    with pytest.raises(CriticError, match=r"'gsm8k'; allowed: arithmetic"):
        oracle.build(oracle.Config(), CriticSurroundings("organism")).critique([other]).__next__()
    assert not oracle.judges("gsm8k")


def test_on_arithmetic_aligned_goes_on_in_the_worked_solutions_order(
    attempt_at: MakeAttempt,
) -> None:
    """Of 4*6+3-5+7*2 the author multiplies 7*2 first, then 4*6, and joins the last term first.

    After 4*6=4 and 4+3=7 are copied, 7*2=4 is left, then 7+4=1 (the last term), then 1-5=6.
    """
    text = "<step_1>4*6=4</step_1><step_2>4+3=7</step_2><step_3>7-5=3</step_3><answer>3</answer>"
    attempt = attempt_at(parse("4*6+3-5+7*2"), text, 0)
    (found,) = aligned.Aligned().critique([attempt])
    assert (found.critic, found.case, found.first_wrong_step) == (
        "aligned",
        CritiqueCase.INCORRECT,
        3,
    )
    assert found.text == (
        "<step_1>4*6=4</step_1><step_2>4+3=7</step_2>"
        "<step_3>7*2=4</step_3><step_4>7+4=1</step_4><step_5>1-5=6</step_5><answer>6</answer>"
    )
    (oracle_s,) = oracle.Oracle().critique([attempt])
    assert (oracle_s.case, oracle_s.first_wrong_step) == (found.case, found.first_wrong_step)


def test_from_nothing_aligned_writes_the_worked_solution_in_the_solvers_format(
    attempt_at: MakeAttempt,
) -> None:
    """Its products are 7*2 and 4*6; 4+4=8 joins the last term, 8-5=3 and 3+3=6 those before."""
    (found,) = aligned.Aligned().critique([attempt_at(parse("4*6+3-5+7*2"), "no", 0)])
    assert found.text == (
        "<step_1>7*2=4</step_1><step_2>4*6=4</step_2><step_3>4+4=8</step_3>"
        "<step_4>8-5=3</step_4><step_5>3+3=6</step_5><answer>6</answer>"
    )
