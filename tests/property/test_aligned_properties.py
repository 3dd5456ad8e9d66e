"""What every critique of the aligned critic keeps to, over corrupted and cut worked solutions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_problem_fixture import attempt_with, word_problems

from sdbench import traces, worked
from sdbench.critics import aligned
from sdbench.critics.base import CriticSurroundings
from sdbench.grading import Answer, Grader
from sdbench.records import Critique, CritiqueCase, FinishReason, Problem, VerdictStatus
from sdbench.worked.equations import read

PROBLEMS = st.sampled_from(word_problems())
RESULT = re.compile(r"= ?[$£€]?(\d+)(?=[^\d.,/]*$|[^\d.,/%=]*\.)")
# The values of these solutions are right, and none of their equations is rounded.
EXACT = [p for p in word_problems() if all(e.true for e in read(p.solution or ""))]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


def critique(grader: Grader, problem: Problem, text: str) -> Critique:
    critic = aligned.build(aligned.Config(), CriticSurroundings("steps"))
    (found,) = critic.critique([attempt_with(grader, problem, text)])
    return found


def solution(problem: Problem) -> list[str]:
    assert problem.solution is not None
    return list(worked.steps(problem.solution))


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Problem, str]:
    """A worked solution of which steps are left out, swapped or get other results, cut anywhere."""
    problem = draw(PROBLEMS)
    steps = draw(st.permutations(solution(problem))) if draw(st.booleans()) else solution(problem)
    kept = [step for step in steps if draw(st.integers(0, 5))]
    for index, step in enumerate(kept):
        if not draw(st.integers(0, 2)):
            kept[index] = RESULT.sub(lambda m: f"= {int(m[1]) + 3}", step)
    text = worked.write(kept, draw(st.sampled_from([problem.answer, "12345"])))
    return problem, text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@given(rollouts())
def test_a_critique_is_a_right_solution_that_begins_with_the_rollouts_own_steps(
    grader: Grader, rollout: tuple[Problem, str]
) -> None:
    problem, text = rollout
    found = critique(grader, problem, text)
    trace, own = traces.parse(found.text), traces.parse(text)
    assert trace.well_formed
    answer = Answer("x", found.text, problem.answer, FinishReason.STOP)
    assert grader.grade([answer])[0].status is VerdictStatus.CORRECT
    if found.first_wrong_step is None:
        assert found.case is CritiqueCase.CORRECT
        assert found.text == text[: own.end]
        return
    kept = found.first_wrong_step - 1
    assert 0 <= kept <= len(own.steps)
    prefix = text[: own.steps[kept - 1].end] if kept else ""
    assert found.text.startswith(prefix)
    assert [step.content for step in trace.steps[:kept]] == [s.content for s in own.steps[:kept]]
    fresh = [step.content for step in trace.steps[kept:]]
    assert set(fresh) <= set(solution(problem))
    assert fresh == [step for step in solution(problem) if step in fresh], "in their order"


@given(rollouts())
def test_the_wrong_step_is_never_quoted(grader: Grader, rollout: tuple[Problem, str]) -> None:
    """Nor is any later step with a false equation, unless the worked solution says the very same."""
    problem, text = rollout
    found = critique(grader, problem, text)
    if found.first_wrong_step is None:
        return
    later = traces.parse(text).steps[found.first_wrong_step - 1 :]
    fresh = "\n".join(solution(problem))
    for step in later:
        false = not all(equation.true for equation in read(step.content))
        if (step is later[0] or false) and step.content and step.content not in fresh:
            assert step.content not in found.text


@given(st.sampled_from(EXACT), st.data())
def test_the_first_false_equation_is_the_first_wrong_step(
    grader: Grader, problem: Problem, data: st.DataObject
) -> None:
    """With one result changed, whatever follows, the steps before it are kept and none after."""
    steps = solution(problem)
    place = data.draw(st.integers(0, len(steps) - 1))
    changed = RESULT.sub(lambda m: f"= {int(m[1]) + 3}", steps[place])
    if [one.true for one in read(changed)].count(False) == 0:
        return
    found = critique(
        grader, problem, worked.write([*steps[:place], changed, *steps[place + 1 :]], "7")
    )
    assert (found.case, found.first_wrong_step) == (CritiqueCase.INCORRECT, place + 1)


@given(st.sampled_from(EXACT), st.data())
def test_a_cut_solution_is_completed_by_what_is_missing(
    grader: Grader, problem: Problem, data: st.DataObject
) -> None:
    """Up to a last step that only repeats the result in words: that one is not needed."""
    steps = solution(problem)
    kept = data.draw(st.integers(0, len(steps) - 1))
    text = "\n".join(worked.write(steps[:kept], "").splitlines()[:-1])
    found = critique(grader, problem, text)
    complete = [worked.write(steps, problem.answer)]
    if not read(steps[-1]):
        complete.append(worked.write(steps[:-1], problem.answer))
    assert found.case is CritiqueCase.INCOMPLETE
    assert found.text in complete


@given(PROBLEMS, st.text(alphabet="0123456789+-*=<>/step_answer \n", max_size=80))
def test_any_text_gets_a_right_critique(grader: Grader, problem: Problem, text: str) -> None:
    found = critique(grader, problem, text)
    assert traces.parse(found.text).well_formed
    assert (found.first_wrong_step is None) == (found.case is CritiqueCase.CORRECT)


@given(rollouts())
def test_the_critique_of_a_critique_is_itself(grader: Grader, rollout: tuple[Problem, str]) -> None:
    """It is right, so it is copied: case A, unless the worked solution's own words do not reach it."""
    problem, text = rollout
    found = critique(grader, problem, text)
    again = critique(grader, problem, found.text)
    assert again.text == found.text
