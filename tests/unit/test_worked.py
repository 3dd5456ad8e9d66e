"""Worked solutions as tagged steps, and that the grader and the parser read them."""

from __future__ import annotations

import pytest
from word_problem_fixture import problem_with, word_problems

from sdbench import traces
from sdbench.grading.extract import extract_answer
from sdbench.records import Problem
from sdbench.worked import steps, tagged, write


def test_a_line_with_an_equation_is_a_step() -> None:
    problem = problem_with("selling muffin and cherry pie")
    assert problem.solution is not None
    assert list(steps(problem.solution)) == problem.solution.splitlines()[:-1]


def test_a_line_with_two_equations_is_two_steps() -> None:
    line = (
        "On the third day, 576 * 5 = 2880 more. Therefore, there are 576 + 2880 = 3456 people. All."
    )
    assert steps(line) == (
        "On the third day, 576 * 5 = 2880 more.",
        "Therefore, there are 576 + 2880 = 3456 people. All.",
    )


def test_a_title_ends_no_sentence() -> None:
    assert steps("It is 5 - 3 = 2 more than Mrs. Lee's 3 = 3 has.") == (
        "It is 5 - 3 = 2 more than Mrs. Lee's 3 = 3 has.",
    )


def test_words_go_with_the_equation_they_lead_up_to() -> None:
    """List marks, blank lines, calculator's marks and the answer's line are left out."""
    text = (
        "Look:\n\n1. The cost:\n   - Each is $4\n   - 77 x $4 = <<77*4=308>>$308\n\nDone.\n#### 308"
    )
    assert steps(text) == ("Look:\nThe cost:\nEach is $4\n77 x $4 = $308", "Done.")


def test_without_any_equation_each_line_is_a_step() -> None:
    assert steps("He has five.\nHe needs two more.\n#### 2") == (
        "He has five.",
        "He needs two more.",
    )


def test_tagged_by_hand() -> None:
    text = "There are 9*2 = 18 pink.\nThere are 40-9-18 = 13 green.\n#### 13"
    assert tagged(text, "13") == (
        "<step_1>There are 9*2 = 18 pink.</step_1>\n"
        "<step_2>There are 40-9-18 = 13 green.</step_2>\n"
        "<answer>\\boxed{13}</answer>"
    )
    assert write(["a"], "5", 3) == "<step_3>a</step_3>\n<answer>\\boxed{5}</answer>"


@pytest.mark.parametrize("problem", word_problems(), ids=lambda problem: problem.id)
def test_every_solution_parses_and_gives_its_answer(problem: Problem) -> None:
    assert problem.solution is not None
    trace = traces.parse(tagged(problem.solution, problem.answer))
    assert trace.well_formed
    assert len(trace.steps) >= 2
    assert extract_answer(trace.text) == problem.answer
