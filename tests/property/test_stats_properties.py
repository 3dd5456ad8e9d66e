"""What holds of the statistics for any outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench import stats
from sdbench.stats import Vote

OUTCOMES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=6, max_size=6),
    min_size=2,
    max_size=8,
)
ANSWERED = [Vote("7", correct=True), Vote("07", correct=True)] + [
    Vote(text, correct=False) for text in ("1", "2", "3")
]
VOTES = st.lists(st.sampled_from([*ANSWERED, Vote(None, correct=False)]), min_size=1, max_size=9)
SCORES = st.floats(-1, 1).map(lambda score: round(score * 12) / 12)
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=20)
BY_SEED = st.integers(2, 8).flatmap(
    lambda n: st.lists(st.lists(SCORES, min_size=n, max_size=n), min_size=1, max_size=4)
)
P_VALUES = st.dictionaries(st.text("abcdef", min_size=1), st.floats(0, 1), max_size=8)


def by_number(values: Sequence[float]) -> dict[str, float]:
    return {f"p{number:02d}": value for number, value in enumerate(values)}


def majority(votes: Sequence[Vote]) -> Fraction:
    """The rule as it is told: count, find the largest classes, share the credit."""
    count = Counter("right" if v.correct else f"wrong {v.answer}" for v in votes if v.answer)
    largest = [name for name, number in count.items() if number == max(count.values())]
    return Fraction("right" in largest, len(largest) or 1)


@given(VOTES, st.data())
@settings(max_examples=200)
def test_maj_is_the_mean_over_all_subsets(votes: list[Vote], data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(votes)))
    credits = [majority(subset) for subset in combinations(votes, m)]
    expected = float(sum(credits, Fraction(0)) / len(credits))
    assert stats.maj_by_problem({"a": votes}, m) == {"a": expected}


@given(st.lists(st.sampled_from(ANSWERED), min_size=1, max_size=12))
def test_maj_of_one_is_avg_where_all_answered(votes: list[Vote]) -> None:
    outcomes = {"a": [vote.correct for vote in votes]}
    assert stats.maj_by_problem({"a": votes}, 1) == stats.avg_by_problem(outcomes)


@given(VOTES, st.data())
def test_maj_is_at_most_pass(votes: list[Vote], data: st.DataObject) -> None:
    """A majority of m samples can be right only if one of them is."""
    m = data.draw(st.integers(1, len(votes)))
    outcomes = {"a": [vote.correct for vote in votes]}
    found = stats.maj_by_problem({"a": votes}, m)["a"]
    assert 0 <= found <= stats.pass_by_problem(outcomes, m)["a"] <= 1


@given(OUTCOMES)
def test_pass_of_one_is_avg_and_pass_never_falls(outcomes: dict[str, list[bool]]) -> None:
    by_m = [stats.pass_by_problem(outcomes, m) for m in range(1, 7)]
    assert by_m[0] == stats.avg_by_problem(outcomes)
    for problem in outcomes:
        curve = [scores[problem] for scores in by_m]
        assert curve == sorted(curve)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_is_the_share_of_subsets_with_a_right_sample(
    samples: list[bool], data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, len(samples)))
    hits = [any(subset) for subset in combinations(samples, m)]
    assert stats.pass_by_problem({"a": samples}, m) == {"a": sum(hits) / len(hits)}


@given(OUTCOMES, VOTES, st.randoms())
def test_no_order_matters(
    outcomes: dict[str, list[bool]], votes: list[Vote], order: Random
) -> None:
    problems = list(outcomes)
    order.shuffle(problems)
    shuffled = {problem: outcomes[problem][::-1] for problem in problems}
    before, after = stats.avg_by_problem(outcomes), stats.avg_by_problem(shuffled)
    assert before == after
    assert stats.pass_by_problem(outcomes, 3) == stats.pass_by_problem(shuffled, 3)
    assert stats.estimate(before, outcomes) == stats.estimate(after, shuffled)
    m = (len(votes) + 1) // 2
    assert stats.maj_by_problem({"a": votes}, m) == stats.maj_by_problem({"a": votes[::-1]}, m)
    zero = dict.fromkeys(outcomes, 0.0)
    kept = stats.paired_difference([before], [zero], replicates=50)
    assert kept == stats.paired_difference([after], [zero], replicates=50)


@given(OUTCOMES, st.floats(-2, 2), st.sampled_from([0.25, 2.0, 4.0]))
def test_estimate_follows_shift_and_scale(
    outcomes: dict[str, list[bool]], shift: float, scale: float
) -> None:
    values = stats.avg_by_problem(outcomes)
    plain = stats.estimate(values)
    moved = stats.estimate({problem: scale * v + shift for problem, v in values.items()})
    assert plain.standard_error is not None
    assert plain.low is not None
    assert plain.high is not None
    assert moved.value == pytest.approx(scale * plain.value + shift, abs=1e-12)
    assert moved.standard_error == pytest.approx(scale * plain.standard_error, abs=1e-12)
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-9)
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-9)
    assert plain.low <= plain.value <= plain.high


@given(PAIRS)
def test_difference_is_antisymmetric(pairs: list[tuple[float, float]]) -> None:
    """All but the two-level bootstrap, which draws one condition's seeds before the other's."""
    first, second = by_number([a for a, _ in pairs]), by_number([b for _, b in pairs])
    there = stats.paired_difference([first], [second], replicates=200)
    back = stats.paired_difference([second], [first], replicates=200)
    assert there.value == -back.value
    assert there.standard_error == back.standard_error
    assert there.p_value == back.p_value
    assert there.minimum_detectable == back.minimum_detectable
    for one, other in ((there.interval, back.interval), (there.bootstrap, back.bootstrap)):
        assert one is not None
        assert other is not None
        assert one.low == pytest.approx(-other.high, abs=1e-12)
        assert one.high == pytest.approx(-other.low, abs=1e-12)


@given(PAIRS, st.floats(-1, 1))
def test_what_both_conditions_share_cancels(pairs: list[tuple[float, float]], shift: float) -> None:
    first, second = by_number([a for a, _ in pairs]), by_number([b for _, b in pairs])
    plain = stats.paired_difference([first], [second], replicates=50)
    moved = stats.paired_difference(
        [{problem: score + shift for problem, score in first.items()}],
        [{problem: score + shift for problem, score in second.items()}],
        replicates=50,
    )
    assert moved.value == pytest.approx(plain.value, abs=1e-12)
    assert moved.standard_error == pytest.approx(plain.standard_error, abs=1e-12)


@given(st.lists(SCORES, min_size=1, max_size=9))
def test_exact_p_value_is_the_share_of_all_sign_patterns(differences: list[float]) -> None:
    """In twelfths the sums are whole numbers, so ties are exact; brute force over 2^n patterns."""
    twelfths = [round(12 * d) for d in differences]
    zero = by_number([0.0] * len(differences))
    found = stats.paired_difference([by_number(differences)], [zero], replicates=1).p_value
    totals = [0]
    for value in twelfths:
        totals = [t + s * value for t in totals for s in (1, -1)]
    assert found == sum(abs(t) >= abs(sum(twelfths)) for t in totals) / len(totals)


@given(PAIRS)
def test_p_value_is_a_probability_and_never_zero(pairs: list[tuple[float, float]]) -> None:
    first, second = by_number([a for a, _ in pairs]), by_number([b for _, b in pairs])
    assert 0 < stats.paired_difference([first], [second], replicates=50).p_value <= 1


@given(BY_SEED)
def test_intervals_lie_within_what_was_seen(by_seed: list[list[float]]) -> None:
    """A mean of drawn scores is between the lowest and the highest score."""
    scores = [by_number(values) for values in by_seed]
    found = stats.seed_interval(scores, replicates=50)
    seen = [score for one in scores for score in one.values()]
    assert found is not None
    assert min(seen) - 1e-12 <= found.low <= found.high <= max(seen) + 1e-12


@given(P_VALUES)
def test_holm_is_monotone_and_at_least_raw(p_values: dict[str, float]) -> None:
    adjusted = stats.holm(p_values)
    assert list(adjusted) == list(p_values)
    for name, raw in p_values.items():
        assert raw <= adjusted[name] <= 1
        assert adjusted[name] <= min(1.0, len(p_values) * raw)
        for other, other_raw in p_values.items():
            assert raw > other_raw or adjusted[name] <= adjusted[other]


@given(P_VALUES)
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: dict[str, float]) -> None:
    """The rule as Holm told it: go up the sorted p-values, stop at the first above alpha / left."""
    rejected = set()
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if p_values[name] * (len(p_values) - rank) > stats.ALPHA:
            break
        rejected.add(name)
    assert {name for name, p in stats.holm(p_values).items() if p <= stats.ALPHA} == rejected


@given(st.floats(1e-4, 1), st.integers(2, 10_000), st.floats(0.5, 0.99), st.floats(0.001, 0.2))
def test_problems_needed_inverts_the_detectable_effect(
    variance: float, problems: int, power: float, alpha: float
) -> None:
    effect = stats.minimum_detectable_effect(variance, problems, power=power, alpha=alpha)
    needed = stats.problems_needed(variance, effect, power=power, alpha=alpha)
    assert abs(needed - problems) <= 1
    again = stats.minimum_detectable_effect(variance, needed, power=power, alpha=alpha)
    assert again <= effect * (1 + 1e-9)
    assert math.isclose(
        stats.minimum_detectable_effect(variance, 4 * problems, power=power, alpha=alpha),
        effect / 2,
    )
