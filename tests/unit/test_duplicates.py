"""Near-duplicates: similarities and counts against numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sdbench import problems
from sdbench.curate.duplicates import Measure, compare, grams, normalised, report, similarity, words
from sdbench.errors import DataError
from sdbench.records import Problem

Run = Callable[..., int]
PAIRS_OF_WORDS = Measure(shingle=2)


def asking(question: str, split: str = "train", task: str = "arithmetic") -> Problem:
    return Problem(id=f"{split}:{question}", task=task, split=split, prompt=question, answer="1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann  has\n3 dogs.", ["ann", "has", "3", "dogs", "."]),
        ("1,250.5 is $x^2$", ["1,250.5", "is", "$", "x", "^", "2", "$"]),
        ("(3+4)*5", ["(", "3", "+", "4", ")", "*", "5"]),
        ("\N{LATIN SMALL LIGATURE FI}ve \N{FULLWIDTH DIGIT THREE}", ["five", "3"]),
        ("", []),
    ],
)
def test_a_text_is_read_as_words_numbers_and_marks(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_similarity_is_the_jaccard_index_of_shingles() -> None:
    """Pairs of `a b c d` and `a b c e`: ab, bc, cd and ab, bc, ce; two of four are common."""
    assert similarity("a b c d", "A b  c e", PAIRS_OF_WORDS) == 2 / 4
    assert similarity("a b c d", "d c b a", PAIRS_OF_WORDS) == 0
    assert similarity("a b a b", "a b a", PAIRS_OF_WORDS) == 1  # a set counts no repeats


def test_a_text_shorter_than_a_shingle_is_one() -> None:
    assert grams(["a", "b"], 3) == {("a", "b")}
    assert grams([], 3) == {()}
    assert similarity("a b", "a b", Measure(shingle=3)) == 1
    assert similarity("a b", "a b c", Measure(shingle=3)) == 0


def test_numbers_are_alike_only_if_asked() -> None:
    """Ann has 3 dogs, Ann has 14 dogs: of pairs only `ann has` is common, one of five."""
    one, other = "Ann has 3 dogs", "Ann has 14 dogs"
    assert similarity(one, other, PAIRS_OF_WORDS) == 1 / 5
    assert similarity(one, other, Measure(shingle=2, ignore_numbers=True)) == 1
    assert similarity("x2 is 1", "x3 is 1", Measure(shingle=1, ignore_numbers=True)) < 1


def test_the_instruction_that_a_task_adds_is_not_compared() -> None:
    """Else all problems of a task would share a run of words."""
    instruction = "\n\nReason step by step, and put the final answer in \\boxed{}."
    one, other = (
        asking(question + instruction, split, "gsm8k")
        for question, split in (("How many dogs?", "train"), ("What is the sum", "test"))
    )
    assert problems.question(one) == "How many dogs?"
    assert normalised(other) == "what is the sum"
    found = compare([one], [other], Measure(ngram=3, threshold=0.01))
    assert (found.near_pairs, found.share) == (0, 0)


def test_what_all_questions_of_a_task_end_with_is_an_instruction_if_there_are_many() -> None:
    """40 and 10 questions of one word and 4 words that all share, the full stop included."""
    training = [asking(f"t{n} Give the result.") for n in range(40)]
    test = [asking(f"e{n} Give the result.", "test") for n in range(10)]
    measure = Measure(threshold=0.4, shingle=2, ngram=4)
    assert compare(training, test, measure).share == 0
    fewer = compare(training, test[:9], measure)
    assert (fewer.share, fewer.near_pairs) == (1, 40 * 9)
    assert {pair.similarity for pair in fewer.pairs} == {3 / 5}
    assert (
        compare(training, [*test[:9], asking("t3 give the result.", "test")], measure).share == 0.1
    )


def test_counts_and_pairs() -> None:
    """Of five evaluation problems one is identical, two are near, two share a run of four words.

    With pairs of words and a threshold of 1/2: `a b c d e` is itself, 1; `a b c d x y z` has ab, bc, cd
    of seven, 3/7, and a run of four; `f g h` and `f g i` share fg of three, 1/3; `f g h i` has fg, gh
    of three, 2/3; `q` has nothing.
    """
    training = [asking("a b c d e"), asking("f g h")]
    validation = [asking(text, "validation") for text in ("A  b c d e", "a b c d x y z")]
    test = [asking(text, "test") for text in ("f g i", "f g h i", "q")]
    measure = Measure(threshold=0.5, shingle=2, ngram=4)
    found = compare(training, [*validation, *test], measure)
    assert [
        (one.split, one.problems, one.identical, one.near, one.ngram, one.any)
        for one in found.splits
    ] == [("validation", 2, 1, 1, 2, 2), ("test", 3, 0, 1, 0, 1)]
    assert found.share == 3 / 5
    assert [(p.training.id, p.evaluation.id, p.similarity) for p in found.pairs] == [
        ("train:a b c d e", "validation:A  b c d e", 1),
        ("train:f g h", "test:f g h i", 2 / 3),
    ]
    low = compare(training, [*validation, *test], Measure(threshold=1 / 3, shingle=2), most=2)
    assert low.near_pairs == 4
    assert [pair.similarity for pair in low.pairs] == [1, 2 / 3]
    assert "and 2 more" in report(low)


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(DataError, match="no evaluation problem"):
        compare([asking("a")], [])


def test_identical_means_the_very_numbers() -> None:
    """With numbers taken for alike `1+2` is near to `3+4`, and still not identical to it."""
    found = compare([asking("1+2")], [asking("3+4", "test")], Measure(ignore_numbers=True))
    (counts,) = found.splits
    assert (counts.identical, counts.near) == (0, 1)


def test_the_command_reports_and_can_fail(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The arithmetic splits are disjoint, so nothing is identical at a threshold of 1."""
    exact = ("data", "duplicates", "arithmetic", "--threshold", 1, "--shingle", 50, "--ngram", 50)
    assert run(*exact, "--fail-above", 0, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["training_problems"], found["share"], found["pairs"]) == (4096, 0, [])
    assert [(one["split"], one["problems"]) for one in found["evaluation"]] == [
        ("validation", 512),
        ("test", 1024),
    ]
    assert run(*exact, "--ignore-numbers", "--fail-above", 0.01) == 1
    assert "near pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["arithmetik"], ["'arithmetik'", "did you mean 'arithmetic'"]),
        (["aime24"], ["aime24", "no split 'train'", "test"]),
        (["arithmetic", "--against", "champp"], ["'champp'", "champ"]),
        (["arithmetic", "--threshold", "0"], ["threshold", "0.01"]),
        (["arithmetic", "--ngram", "0"], ["ngram"]),
        (["arithmetic", "--fail-above", "2"], ["fail-above"]),
    ],
)
def test_mistakes_are_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run("data", "duplicates", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in named), error
