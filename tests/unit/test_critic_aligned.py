"""The aligned critic's cases by hand, on real worked solutions.

MUFFINS: 22 + 15 = 37, 22 + 37 = 59, 59 x 13 = 767, 29 - 13 = 16, 29 + 16 = 45, 45 x 33 = 1485,
767 + 1485 = 2252; a solution of seven steps, of which the first two serve the third, the next two
the sixth, and all of them the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from word_problem_fixture import attempt_with, problem_with, word_problems

from sdbench import worked
from sdbench.critics import aligned
from sdbench.critics.base import CriticSurroundings
from sdbench.errors import CriticError
from sdbench.grading import Grader
from sdbench.records import Critique, CritiqueCase, Problem

A, B, C, D = CritiqueCase


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


def solution(problem: Problem) -> list[str]:
    assert problem.solution is not None
    return list(worked.steps(problem.solution))


MUFFINS = problem_with("selling muffin and cherry pie")
FRIDAY, BOXES, EARNED, MONDAY, PIES, PIE_EARNED, TOTAL = solution(MUFFINS)
PUPPIES = problem_with("1000 puppies")


def tags(*contents: str, answer: str | None = None, separator: str = "\n", first: int = 1) -> str:
    parts = [f"<step_{n}>{content}</step_{n}>" for n, content in enumerate(contents, first)]
    if answer is not None:
        parts.append(f"<answer>\\boxed{{{answer}}}</answer>")
    return separator.join(parts)


WHOLE = tags(FRIDAY, BOXES, EARNED, MONDAY, PIES, PIE_EARNED, TOTAL, answer="2252")


def critique(
    grader: Grader, text: str, problem: Problem = MUFFINS, *, cut: bool = False
) -> Critique:
    critic = aligned.build(aligned.Config(), CriticSurroundings("steps"))
    attempt = attempt_with(grader, problem, text, cut=cut)
    (found,) = critic.critique([attempt])
    assert (found.rollout_id, found.critic, found.tokens) == (attempt.rollout.id, "aligned", 0)
    return found


def test_case_a_a_right_solution_is_its_own_critique(grader: Grader) -> None:
    """In other words, by another way, with other white space: copied as it is up to its answer."""
    own = tags("Muffins: 22+22+15 = 59", "59*13 = 767, 29+29-13 = 45", separator="\n\n")
    text = f"{own}<step_3>45*33 + 767 = 2252</step_3>  <answer>$2,252$</answer> That is all."
    found = critique(grader, text)
    assert (found.case, found.first_wrong_step) == (A, None)
    assert found.text == text.removesuffix(" That is all.")


def test_case_a_counts_the_graders_answer_not_the_first(grader: Grader) -> None:
    """The grader takes the last answer, which is right; the trace ends with the first, which is not."""
    text = WHOLE.replace("\\boxed{2252}", "\\boxed{1}") + "<answer>2252</answer>"
    found = critique(grader, text)
    assert (found.case, found.first_wrong_step, found.text) == (D, 8, WHOLE)


@pytest.mark.parametrize(
    "text", ["<answer>2252</answer>", "It is \\boxed{2252}.", "22 + 15 = 37. <answer>2252</answer>"]
)
def test_case_b_the_right_answer_without_steps(grader: Grader, text: str) -> None:
    found = critique(grader, text)
    assert (found.case, found.first_wrong_step, found.text) == (B, 1, WHOLE)


def test_case_b_the_right_answer_out_of_the_blue(grader: Grader) -> None:
    """No step comes to 2252: what is missing follows the last step that is there."""
    found = critique(grader, tags(FRIDAY, BOXES, answer="2252"))
    assert (found.case, found.first_wrong_step, found.text) == (B, 3, WHOLE)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("", 1),
        ("<step_1>He sold 22 + ", 1),
        (tags(FRIDAY, BOXES), 3),
        (tags(FRIDAY, BOXES) + "\n<step_3>William earned 59 x", 3),
        (tags(FRIDAY, BOXES) + "\n<step_3>Now he earned 1 + 1 = 3", 3),
        (tags(FRIDAY, BOXES, EARNED, MONDAY, PIES, PIE_EARNED, TOTAL) + "\n<answer>", 8),
    ],
)
def test_case_c_cut_short_without_a_wrong_step(grader: Grader, text: str, step: int) -> None:
    found = critique(grader, text, cut=True)
    assert (found.case, found.first_wrong_step, found.text) == (C, step, WHOLE)


def test_case_c_steps_in_words_at_the_end_are_not_taken_over(grader: Grader) -> None:
    """Nothing shows that they are right; before a right equation they are."""
    words = "We look at Friday, on which he sold 15 more than the 22 boxes."
    found = critique(grader, tags(words, FRIDAY, "Now to the pies."), cut=True)
    assert (found.case, found.first_wrong_step) == (C, 3)
    assert found.text.startswith(tags(words, FRIDAY) + "\n<step_3>" + BOXES)


def test_case_d_a_false_equation_is_replaced_and_what_was_carried_on_goes(grader: Grader) -> None:
    wrong = tags(FRIDAY, "22 + 37 = 69", "69 x $13 = $897", answer="2382")
    found = critique(grader, wrong)
    assert (found.case, found.first_wrong_step, found.text) == (D, 2, WHOLE)


def test_case_d_a_false_equation_with_a_lucky_answer(grader: Grader) -> None:
    found = critique(grader, tags(FRIDAY, "22 + 37 = 69", "767 + 1485 = 2252", answer="2252"))
    assert (found.case, found.first_wrong_step, found.text) == (D, 2, WHOLE)


def test_case_d_true_equations_that_lead_nowhere(grader: Grader) -> None:
    """22 - 15 = 7 is true, but neither 7 nor what becomes of it, 29, is a value of the solution.

    Other than 29 + 16: those 29 are given, and the solution adds 16 to them.
    """
    found = critique(
        grader, tags("On Friday 22 - 15 = 7 boxes.", "22 + 7 = 29 boxes.", answer="29")
    )
    assert (found.case, found.first_wrong_step, found.text) == (D, 1, WHOLE)


def test_case_d_a_known_value_is_not_reached_by_other_numbers(grader: Grader) -> None:
    """18*0.5 = 9 is the solution's; 6 + 3 = 9 is true and comes to 9 again, where 6*3 = 18 stands."""
    problem = problem_with("18 tubes of yellow paint and 6 tubes of red")
    half, triple, total = solution(problem)
    found = critique(grader, tags(half, "John has 6 + 3 = 9 red tubes", answer="18"), problem)
    assert (found.case, found.first_wrong_step) == (D, 2)
    assert found.text == tags(half, triple, total, answer=problem.answer)


def test_case_d_right_steps_and_a_wrong_answer(grader: Grader) -> None:
    """The eighth thing to write, the answer, is the wrong one."""
    found = critique(grader, WHOLE.replace("{2252}", "{1485}"))
    assert (found.case, found.first_wrong_step, found.text) == (D, 8, WHOLE)


def test_case_d_without_any_step_the_whole_solution(grader: Grader) -> None:
    found = critique(grader, "22 + 15 = 37, so the answer is 37.")
    assert (found.case, found.first_wrong_step, found.text) == (D, 1, WHOLE)


def test_a_step_in_words_with_a_number_from_nowhere_is_wrong(grader: Grader) -> None:
    found = critique(grader, tags(FRIDAY, "He sold 38 boxes then.", BOXES, answer="38"))
    assert (found.case, found.first_wrong_step, found.text) == (D, 2, WHOLE)


@pytest.mark.parametrize("words", ["A year has 12 months.", "That is 1/2 of 44.", "He sold 37."])
def test_a_step_in_words_may_hold_what_is_common_or_known(grader: Grader, words: str) -> None:
    """44 only by the solver's own equation before it, 37 by the solution's."""
    own = ("Twice 22 + 22 = 44 boxes.", words, "With the 15 more, 44 + 15 = 59.")
    found = critique(grader, tags(*own, "59 x 13 = 757", answer="1"))
    assert (found.case, found.first_wrong_step) == (D, 4)


def test_another_way_to_the_same_values_is_right(grader: Grader) -> None:
    """22 + 22 = 44 is no value of the solution, but 44 + 15 = 59 is and needs it.

    37 is then not needed any more, nor is 59 itself; what is next is the money.
    """
    own = ("Twice 22 + 22 = 44 boxes.", "With the 15 more, 44 + 15 = 59.")
    found = critique(grader, tags(*own, "59 x 13 = 757", answer="1"))
    assert (found.case, found.first_wrong_step) == (D, 3)
    assert found.text == tags(*own, EARNED, MONDAY, PIES, PIE_EARNED, TOTAL, answer="2252")


def test_what_was_worked_out_in_another_order_is_not_said_again(grader: Grader) -> None:
    """The pies came first: MONDAY and PIES are there, PIE_EARNED is not."""
    own = ("29 - 13 = 16 pies", "29 + 16 = 45 pies")
    found = critique(grader, tags(*own, "45 x 33 = 1400", answer="1"))
    assert found.text == tags(*own, FRIDAY, BOXES, EARNED, PIE_EARNED, TOTAL, answer="2252")


def test_several_steps_in_one(grader: Grader) -> None:
    """(22 + 22 + 15) x 13 = 767 makes FRIDAY and BOXES unnecessary, which serve nothing but EARNED."""
    own = "Muffins brought (22 + 22 + 15) x 13 = 767."
    found = critique(grader, tags(own, "Pies: 29 + 13 = 42", answer="1"))
    assert (found.first_wrong_step, found.case) == (2, D)
    assert found.text == tags(own, MONDAY, PIES, PIE_EARNED, TOTAL, answer="2252")


def test_values_that_are_equal_by_chance_are_told_apart(grader: Grader) -> None:
    """Step 1 comes to 100, as does the last of the three: only the first has been said."""
    problem = Problem(
        "x",
        "gsm_symbolic",
        "train",
        "Henry slew 400 orcs, Arthur a quarter, George 2 times as many as Arthur, Fred half that.",
        "100",
        "Arthur: 400*0.25=100 orcs.\nGeorge: 2*100=200 orcs.\nFred: 200*0.5=100 orcs.\n#### 100",
    )
    first, second, third = solution(problem)
    found = critique(grader, tags(first, "2*100=300", answer="300"), problem)
    assert found.text == tags(first, second, third, answer="100")


def test_equal_results_are_told_apart_by_what_they_come_from(grader: Grader) -> None:
    """10+10 = 20 has been said, 5*4 = 20 has not, although that comes first and is 20 as well."""
    problem = Problem(
        "x", "t", "train", "5 times 4 and 10 and 10", "40", "5*4=20\n10+10=20\n20+20=40\n#### 40"
    )
    found = critique(grader, tags("10 + 10 = 20", "20 + 20 = 50", answer="50"), problem)
    assert found.text == tags("10 + 10 = 20", "5*4=20", "20+20=40", answer="40")


def test_what_only_sets_up_the_next_step_goes_with_it(grader: Grader) -> None:
    """The first line states what is given; once 32 is there, nobody needs it."""
    problem = Problem(
        "x",
        "gsm_symbolic",
        "train",
        "A kilometer takes 12 minutes in cold water, in warm water 8 more than twice that. And 4?",
        "128",
        "Cold kilometer = 12 minutes\nWarm kilometer = 8+2(12)=32 minutes\n4(32)=128\n#### 128",
    )
    found = critique(grader, tags("2*12 + 8 = 32", "4*32 = 138", answer="138"), problem)
    assert found.text == tags("2*12 + 8 = 32", "4(32)=128", answer="128")
    found = critique(grader, tags("2*12 = 34", answer="34"), problem)
    assert found.text == tags(*solution(problem), answer="128")


def test_the_worked_solutions_own_rounding_is_right(grader: Grader) -> None:
    """0.56*40 = 22 stands in the solution; 23 does not, and 22.4 is not what it goes on with."""
    problem = next(p for p in word_problems() if "0.56*40 = 22" in (p.solution or ""))
    steps = solution(problem)
    right = tags(*steps[:2], "Then 0.56*40 = 22", "and 60+22 = 82", answer="82")
    assert critique(grader, right, problem).case is A
    for wrong in ("23", "22.4"):
        text = tags(*steps[:2], f"Then 0.56*40 = {wrong}", answer=wrong)
        found = critique(grader, text, problem)
        assert (found.case, found.first_wrong_step) == (D, 3)
        assert found.text == tags(*steps, answer="82")


def test_a_percentage_is_a_share_or_a_number(grader: Grader) -> None:
    spotted, *_ = solution(PUPPIES)
    own = (spotted, "220 + 140 = 360 spotted", "360 / 1440 = 0.25", "0.25 * 100 = 25 percent")
    assert critique(grader, tags(*own, answer="25"), PUPPIES).case is A


def test_the_solvers_white_space_is_kept(grader: Grader) -> None:
    """Verbatim from the first step to where the wrong one begins."""
    text = tags(FRIDAY, f" {BOXES}\n", "59 x 13 = 1", answer="1", separator="")
    found = critique(grader, f"\n{text}")
    assert found.text.startswith(tags(FRIDAY, f" {BOXES}\n", separator="") + "<step_3>" + EARNED)


def test_thoughts_are_not_part_of_the_trace(grader: Grader) -> None:
    """The study's student does not think; one that does is judged by what it says then."""
    thoughts = "<think>\n<step_1>1 + 1 = 3</step_1>\n</think>\n\n"
    assert critique(grader, thoughts + WHOLE).text == WHOLE
    found = critique(grader, "<think>\n22 + 15 = 37", cut=True)
    assert (found.case, found.text) == (C, WHOLE)


def test_a_problem_without_a_worked_solution_is_refused(grader: Grader) -> None:
    bare = dataclasses.replace(MUFFINS, solution=None)
    with pytest.raises(CriticError, match=rf"problem {MUFFINS.id} of task gsm_symbolic has none"):
        critique(grader, WHOLE, bare)
