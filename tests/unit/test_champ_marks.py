"""CHAMP's marks: how many there are, how solutions become steps, and which step a mark is in."""

from __future__ import annotations

from collections import Counter

import pytest

from sdbench import traces
from sdbench.errors import DataError
from sdbench.sources import champ_marks, packages
from sdbench.sources.champ_marks import MarkedSolution, passages


@pytest.fixture(scope="module")
def solutions() -> dict[str, MarkedSolution]:
    return {one.id: one for one in champ_marks.load()}


def test_all_marks_are_there(solutions: dict[str, MarkedSolution]) -> None:
    """Two solutions of each of the 270 problems, both by the same model; 96 without a mistake."""
    assert len(solutions) == 540
    assert Counter(one.author for one in solutions.values()) == {
        "GPT-3.5": 134,
        "GPT-4": 136,
        "GPT-4 Turbo": 134,
        "PaLM 2 Medium": 136,
    }
    assert Counter(one.category for one in solutions.values()) == {
        "Combinatorics": 80,
        "Inequality": 100,
        "Number-Theory": 160,
        "Polynomial": 100,
        "Sequence": 100,
    }
    free = Counter(one.author for one in solutions.values() if one.first_wrong is None)
    assert free == {"GPT-3.5": 15, "GPT-4": 35, "GPT-4 Turbo": 45, "PaLM 2 Medium": 1}
    authors: dict[str, set[str]] = {}
    for one in solutions.values():
        authors.setdefault(one.problem.id, set()).add(one.author)
    assert len(authors) == 270 and all(len(found) == 1 for found in authors.values())


def test_a_solution_read_by_hand(solutions: dict[str, MarkedSolution]) -> None:
    """Ten choose five by cancelling: 2 x 9 x 8 x 7 x 6 over 5 x 4 x 3 x 2 x 1 loses its 2.

    The paragraphs are an introduction, then three that announce a formula, then the result. The mark
    is on the second of the lines under "Simplifying", so in step 4.
    """
    one = solutions["P_Combinatorics_2|GPT-4 Turbo|No C w/o H"]
    assert (one.author, one.category, one.problem.task) == ("GPT-4 Turbo", "Combinatorics", "champ")
    assert [step.split()[0] for step in one.steps] == [
        *("To", "The", "Calculating", "Simplifying", "So"),
    ]
    assert one.first_wrong == 4
    assert r"\frac{9 \times 8 \times 7 \times 6}{4 \times 3 \times 2}" in one.steps[3]
    assert one.problem.answer == "252", "as the task has it, without the form before it"
    assert one.answer is not None and "126" in one.answer
    assert one.problem.solution is not None and "C(10, 5)" in one.problem.solution


def test_a_solution_without_a_mistake(solutions: dict[str, MarkedSolution]) -> None:
    one = solutions["P_Combinatorics_1|GPT-3.5|Direct C w/ H"]
    assert one.first_wrong is None
    assert one.steps[-1].startswith("Therefore, there are 239 such strings")


def test_traces_read_back_as_their_steps(solutions: dict[str, MarkedSolution]) -> None:
    for one in solutions.values():
        trace = traces.parse(one.trace)
        assert tuple(step.content for step in trace.steps) == one.steps
        assert trace.answer == one.answer
        assert trace.well_formed == (one.answer is not None)
        assert one.first_wrong is None or 1 <= one.first_wrong <= len(one.steps)
    assert sum(one.answer is None for one in solutions.values()) == 6, "these were cut short"


def test_steps_hold_the_whole_solution_and_marks_begin_in_theirs(
    solutions: dict[str, MarkedSolution],
) -> None:
    """Against the package itself: nothing but blanks is lost, and 8 of 444 marks run on."""
    import champ_dataset

    run_on = 0
    for problem in champ_dataset.load("v0").problems.values():
        for prompt, mark in problem.fws_annotations.items():
            one = solutions[f"{problem.identifier}|{prompt}"]
            assert "".join("".join(one.steps).split()) == "".join(mark.text.split())
            if mark.start_idx is None:
                assert one.first_wrong is None
                continue
            assert one.first_wrong is not None
            words = mark.wrong_step().strip()
            step = one.steps[one.first_wrong - 1]
            assert words.split()[0] in step
            run_on += words not in step
    assert run_on == 8
    assert champ_marks.__doc__ and "Eight of the 444 marks run on" in champ_marks.__doc__


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One.\n\nTwo.", ["One.", "Two."]),
        ("One.\nStill one.\n \n\n  Two.\n", ["One.\nStill one.", "Two."]),
        ("We have:\n\nx = 1\n\nSo x is 1.", ["We have:\n\nx = 1", "So x is 1."]),
        ("We get,\n\nfor x = 1, 2.\n\nDone.", ["We get,\n\nfor x = 1, 2.", "Done."]),
        ("We have\n\n\\[ x = 1 \\]\n\nDone.", ["We have\n\n\\[ x = 1 \\]", "Done."]),
        ("x\n\n= 1\n\n= 2", ["x\n\n= 1\n\n= 2"]),
        ("= 1\n\nDone.", ["= 1", "Done."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_a_paragraph_is_a_step_unless_it_goes_on_with_the_one_before(
    text: str, steps: list[str]
) -> None:
    assert [text[one.start : one.end] for one in passages(text)] == steps


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda requirement: "it is not installed")
    with pytest.raises(DataError, match=r"champ is made from champ-dataset==1\.0\.0"):
        champ_marks.load()
