"""Scores of the critic benchmark on six traces of three problems, derived by hand.

a/1 has its error in step 2, and step 2 is named; a/2 has none, and is said to be right. b/1 has its
error in step 3, and step 2 is named; b/2 has its error in step 1, and the critique cannot be read. c/1
and c/2 have none; of the first step 1 is named, of the second the critique cannot be read.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from critic_bench_fixture import UNREADABLE, Says, critique, marked

from sdbench.critic_bench import score
from sdbench.critic_bench.marked import Marked
from sdbench.critic_bench.schema import Figure
from sdbench.critic_bench.score import Finding

TRACES = [
    marked("a/1", 2, author="A", category="algebra"),
    marked("a/2", None, author="A", category="algebra"),
    marked("b/1", 3, author="B", category="algebra"),
    marked("b/2", 1, author="B", category="algebra"),
    marked("c/1", None, author="B", category="counting"),
    marked("c/2", None, author="B", category="counting"),
]
SAID: list[Says] = [2, None, 2, UNREADABLE, 1, UNREADABLE]
T_OF_ONE = 12.706204736


@pytest.fixture
def findings() -> list[Finding]:
    return [
        score.judge(trace, critique(trace.id, says, tokens=10), seconds=2.0)
        for trace, says in zip(TRACES, SAID, strict=True)
    ]


def value(found: Figure | None) -> float:
    assert found is not None
    return found["value"]


def test_scores_are_those_derived_by_hand(findings: list[Finding]) -> None:
    """Located 1 of 3 and cleared 1 of 3, so F1 is 1/3; off by one also b/1.

    Said to hold an error: a/1, b/1, c/1 and the unreadable c/2, of which two do; the unreadable b/2 is
    a miss. So the detection F1 is 4 / (4 + 2 + 1).
    """
    found = score.scores(findings)
    expected = {
        "f1": 1 / 3,
        "located": 1 / 3,
        "near": 2 / 3,
        "cleared": 1 / 3,
        "exact": 2 / 6,
        "detection_f1": 4 / 7,
        "detection_precision": 2 / 4,
        "detection_recall": 2 / 3,
        "unreadable": 2 / 6,
        "refused": 0,
        "tokens": 10.0,
        "seconds": 2.0,
    }
    assert {name: value(one) for name, one in found.items()} == pytest.approx(expected)  # type: ignore[arg-type]
    located, cleared = found["located"], found["cleared"]
    assert located is not None and (located["problems"], located["traces"]) == (2, 3)
    assert cleared is not None and (cleared["problems"], cleared["traces"]) == (2, 3)


def test_intervals_are_clustered_by_problem(findings: list[Finding]) -> None:
    """Located: one of one in a, none of two in b. So the error is 4/9, as `pooled_estimate` has it."""
    located = score.scores(findings)["located"]
    assert located is not None and located["low"] is not None and located["high"] is not None
    assert located["high"] - located["low"] == pytest.approx(2 * T_OF_ONE * 4 / 9)


def test_an_f1_that_most_draws_lack_has_no_interval(findings: list[Finding]) -> None:
    """Problem b has no trace without an error and c none with one: bbb and ccc are 2 of 27 draws."""
    f1 = score.scores(findings)["f1"]
    assert f1 is not None and (f1["low"], f1["high"]) == (None, None)
    both = [f for f in findings if f.problem_id == "a"]
    alike = [
        Finding(f"{n}", one.author, one.category, one.erroneous, one.exact, one.near, one.alarmed)
        for n in range(4)
        for one in both
    ]
    f1 = score.scores(alike)["f1"]
    assert f1 is not None and (f1["low"], f1["high"]) == (1.0, 1.0)


def test_scores_by_part_are_those_of_the_part(findings: list[Finding]) -> None:
    by_author = score.scores_by(findings, lambda one: one.author)
    assert list(by_author) == ["A", "B"]
    assert by_author["A"] == score.scores(findings[:2])
    assert value(by_author["A"]["f1"]) == 1 and value(by_author["B"]["f1"]) == 0
    counting = score.scores_by(findings, lambda one: one.category)["counting"]
    assert counting["located"] is None and counting["f1"] is None
    assert value(counting["cleared"]) == 0


def test_unreadable_critiques_lower_every_share_and_are_never_left_out() -> None:
    """The same four traces, all said rightly, or two of them unreadable: every share falls to a half."""
    some = [marked(f"{n}/1", 1 if n < 2 else None) for n in range(4)]
    right: list[Says] = [1, 1, None, None]
    half: list[Says] = [1, UNREADABLE, None, UNREADABLE]

    def scored(said: list[Says]) -> dict[str, float]:
        found = score.scores(
            [score.judge(t, critique(t.id, s), 0.0) for t, s in zip(some, said, strict=True)]
        )
        return {name: value(one) for name, one in found.items()}  # type: ignore[arg-type]

    whole, halved = scored(right), scored(half)
    for name in ("f1", "located", "near", "cleared", "exact", "detection_recall"):
        assert (whole[name], halved[name]) == (1.0, 0.5)
    assert (whole["detection_precision"], halved["detection_precision"]) == (1.0, 0.5)
    assert (whole["unreadable"], halved["unreadable"]) == (0.0, 0.5)


def test_a_critique_with_faults_counts_as_what_it_says_and_is_told() -> None:
    one = replace(critique("a", 2), faults=("wrong_answer",))
    found = score.judge(marked("a", 2), one, 0.0)
    assert (found.exact, found.refused, found.unreadable) == (1.0, True, False)
    mute = replace(critique("a", UNREADABLE), faults=("unparsable",))
    found = score.judge(marked("a", 2), mute, 0.0)
    assert (found.exact, found.refused, found.unreadable) == (0.0, False, True)


@pytest.mark.parametrize(
    ("name", "trace", "exact", "near", "alarmed"),
    [
        (score.GUESS, marked("a", 2), 1 / 4, 3 / 4, 3 / 4),
        (score.GUESS, marked("a", 1), 1 / 4, 2 / 4, 3 / 4),
        (score.GUESS, marked("a", None), 1 / 4, 1 / 4, 3 / 4),
        (score.GUESS, marked("a", 4), 0, 1 / 4, 3 / 4),
        (score.GUESS, marked("a", 1, steps=0), 0, 0, 0),
        ("always says step 1", marked("a", 1), 1, 1, 1),
        ("always says step 1", marked("a", 2), 0, 1, 1),
        ("always says step 1", marked("a", 3), 0, 0, 1),
        ("always says step 1", marked("a", None), 0, 0, 1),
        ("always says all right", marked("a", 1), 0, 0, 0),
        ("always says all right", marked("a", None), 1, 1, 0),
    ],
)
def test_controls_say_what_their_names_say(
    name: str, trace: Marked, exact: float, near: float, alarmed: float
) -> None:
    """Three steps unless it says otherwise, so a guess has four things to say; step 4 is missing."""
    (found,) = score.controls([trace])[name]
    assert (found.exact, found.near, found.alarmed) == pytest.approx((exact, near, alarmed))
    assert not found.unreadable and found.tokens == 0


def test_controls_that_always_say_the_same_have_no_f1_to_speak_of() -> None:
    """Each is perfect on one kind and has nothing of the other; guessing has a quarter of both."""
    found = {name: score.scores(one) for name, one in score.controls(TRACES).items()}
    assert value(found["always says step 1"]["f1"]) == 0
    assert value(found["always says all right"]["f1"]) == 0
    assert value(found["always says all right"]["cleared"]) == 1
    assert found["always says all right"]["detection_precision"] is None
    assert value(found[score.GUESS]["f1"]) == pytest.approx(1 / 4)
