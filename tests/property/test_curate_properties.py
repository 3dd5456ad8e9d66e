"""What holds of splits and of near-duplicates for any problems."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench import problems
from sdbench.curate.duplicates import Measure, compare, normalised, similarity
from sdbench.curate.split import Overlap, first_places, in_order, overlaps
from sdbench.records import Problem

TEXTS = st.lists(st.sampled_from(["a", "b", "3", "14", "+"]), max_size=12).map(" ".join)
MEASURES = st.builds(
    Measure,
    threshold=st.floats(0.01, 1),
    shingle=st.integers(1, 4),
    ngram=st.integers(1, 4),
    ignore_numbers=st.booleans(),
)
NUMBERS = st.lists(st.integers(0, 999), unique=True, min_size=4, max_size=30)
SEEDS = st.integers(0, 5)


def asking(question: str, split: str = "train", id: str | None = None) -> Problem:
    return Problem(id or question, "arithmetic", split, question, "1")


def numbered(numbers: Sequence[int]) -> list[Problem]:
    return [asking(str(number)) for number in numbers]


def dealt(numbers: Sequence[int], sizes: dict[str, int], seed: int) -> dict[str, set[str]]:
    found = first_places(in_order(numbered(numbers), seed), sizes)
    return {split: {problem.id for problem in taken} for split, taken in found.items()}


@st.composite
def sizes_for(draw: st.DrawFn, most: int) -> dict[str, int]:
    test = draw(st.integers(1, most - 1))
    validation = draw(st.integers(0, most - test - 1))
    return {
        "train": draw(st.integers(1, most - test - validation)),
        "validation": validation,
        "test": test,
    }


@given(TEXTS, TEXTS, MEASURES)
def test_similarity_is_symmetric_and_1_for_the_same_words(
    one: str, other: str, measure: Measure
) -> None:
    assert similarity(one, other, measure) == similarity(other, one, measure)
    assert 0 <= similarity(one, other, measure) <= 1
    assert similarity(one, f"  {one.upper()} ", measure) == 1


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, min_size=1, max_size=6), MEASURES)
def test_the_index_finds_every_pair_that_comparing_all_would(
    training: list[str], evaluation: list[str], measure: Measure
) -> None:
    known = [asking(text, id=f"{i}") for i, text in enumerate(training)]
    asked = [asking(text, "test", id=f"{i}") for i, text in enumerate(evaluation)]
    expected = {
        (one.id, other.id): value
        for one in known
        for other in asked
        if (value := similarity(one.prompt, other.prompt, measure)) >= measure.threshold
    }
    found = compare(known, asked, measure)
    assert {(p.training.id, p.evaluation.id): p.similarity for p in found.pairs} == expected
    assert found.near_pairs == len(expected)
    (counts,) = found.splits
    assert counts.near == len({other for _, other in expected})
    assert max(counts.identical, counts.near, counts.ngram) <= counts.any
    assert counts.any <= counts.identical + counts.near + counts.ngram


@given(st.data(), NUMBERS, SEEDS)
def test_splits_are_disjoint_and_of_their_sizes_whatever_the_order(
    data: st.DataObject, numbers: list[int], seed: int
) -> None:
    sizes = data.draw(sizes_for(len(numbers)))
    found = dealt(numbers, sizes, seed)
    assert {split: len(ids) for split, ids in found.items()} == sizes
    assert len(set().union(*found.values())) == sum(sizes.values())
    assert list(found) == list(problems.SPLITS)
    assert dealt(data.draw(st.permutations(numbers)), sizes, seed) == found


@given(st.data(), NUMBERS, SEEDS)
def test_n_more_problems_move_n_at_most_and_towards_training(
    data: st.DataObject, numbers: list[int], seed: int
) -> None:
    """Read backwards: n fewer problems move n at most, away from training."""
    more = data.draw(st.lists(st.integers(1000, 1999), unique=True, max_size=8))
    sizes = data.draw(sizes_for(len(numbers)))
    before, after = (dealt(held, sizes, seed) for held in (numbers, [*numbers, *more]))
    for split in problems.SPLITS:
        assert len(before[split] - after[split]) <= len(more)
    later = {"test": 0, "validation": 1, "train": 2}
    for id in set().union(*before.values()):
        (old,) = (later[split] for split, ids in before.items() if id in ids)
        new = [later[split] for split, ids in after.items() if id in ids]
        assert all(place >= old for place in new)


@given(st.data(), NUMBERS, SEEDS)
def test_a_larger_training_set_leaves_the_others_as_they_are(
    data: st.DataObject, numbers: list[int], seed: int
) -> None:
    sizes = data.draw(sizes_for(len(numbers)))
    smaller = dealt(numbers, {**sizes, "train": 1}, seed)
    larger = dealt(numbers, sizes, seed)
    assert (smaller["test"], smaller["validation"]) == (larger["test"], larger["validation"])
    assert smaller["train"] <= larger["train"]


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=4))
def test_without_what_overlaps_no_question_comes_twice(
    questions: list[str], others: list[str]
) -> None:
    found = [asking(text, id=f"{i}") for i, text in enumerate(questions)]
    held = [asking(text, "test", id=f"test {i}") for i, text in enumerate(others)]
    dropped = {one.problem for one in overlaps(found, held)}
    kept = [problem for problem in found if problem not in dropped]
    asked = [normalised(problem) for problem in kept]
    assert len(set(asked)) == len(asked)
    assert set(asked) == {normalised(p) for p in found} - {normalised(p) for p in held}


@pytest.mark.parametrize("task", ["champ", "arithmetic"])
def test_one_id_is_an_overlap_within_a_task_only(task: str) -> None:
    other = Problem("7", task, "test", "another question", "1")
    mine = Problem("7", "arithmetic", "train", "a question", "1")
    expected = [Overlap(mine, other)] if task == "arithmetic" else []
    assert overlaps([mine], [other]) == expected
