"""Closed forms of the statistics, by hand; and agreement with lm-eval."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pytest
from lm_eval.api.metrics import mean_stderr
from numpy.typing import NDArray

from sdbench import stats
from sdbench.errors import DataError
from sdbench.stats import Interval, Vote

RIGHT = Vote("7", correct=True)
NONE = Vote(None, correct=False)


def wrong(answer: str) -> Vote:
    return Vote(answer, correct=False)


def by_number(values: Sequence[float]) -> dict[str, float]:
    return {f"p{number:03d}": value for number, value in enumerate(values)}


def outcomes_of(counts: Sequence[int], k: int) -> dict[str, list[bool]]:
    return {f"p{i:03d}": [True] * c + [False] * (k - c) for i, c in enumerate(counts)}


def test_avg_is_the_share_of_right_samples() -> None:
    outcomes = {"a": [True, False, False, False], "b": [True, True], "c": [False]}
    assert stats.avg_by_problem(outcomes) == {"a": 0.25, "b": 1.0, "c": 0.0}


def test_avg_of_no_sample_names_the_problem() -> None:
    with pytest.raises(DataError, match="'b' has 0 samples"):
        stats.avg_by_problem({"a": [True], "b": []})


def test_pass_counts_the_subsets_without_a_right_sample() -> None:
    """k = 4, c = 1, m = 2: of 6 pairs 3 lack the right one. c = 2: 1 of 6 lacks both."""
    found = stats.pass_by_problem(outcomes_of([1, 2, 0, 4], 4), 2)
    assert list(found.values()) == [1 / 2, 5 / 6, 0.0, 1.0]


def test_pass_at_k_is_whether_any_sample_is_right() -> None:
    assert list(stats.pass_by_problem(outcomes_of([0, 1, 12], 12), 12).values()) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("m", [0, 5])
def test_a_subset_must_lie_within_the_samples(m: int) -> None:
    with pytest.raises(DataError, match=f"'p000' has 4 samples, found m = {m}; allowed: 1 to"):
        stats.pass_by_problem(outcomes_of([1], 4), m)
    with pytest.raises(DataError, match=f"'p000' has 4 samples, found m = {m}; allowed: 1 to"):
        stats.maj_by_problem({"p000": [RIGHT] * 4}, m)


@pytest.mark.parametrize(
    ("votes", "credit"),
    [
        ([RIGHT, RIGHT, wrong("1")], 1.0),
        ([RIGHT, wrong("1"), wrong("1")], 0.0),
        ([RIGHT, wrong("1"), NONE, NONE], 1 / 2),
        ([RIGHT, wrong("1"), wrong("2")], 1 / 3),
        ([RIGHT, wrong("1"), wrong("2"), wrong("2")], 0.0),
        ([RIGHT, NONE, NONE, NONE], 1.0),
        ([wrong("1"), NONE], 0.0),
        ([NONE, NONE], 0.0),
    ],
)
def test_maj_of_all_samples(votes: list[Vote], credit: float) -> None:
    """Most votes win; a tie of t classes gives 1/t; those without an answer do not vote."""
    assert stats.maj_by_problem({"a": votes}, len(votes)) == {"a": credit}


def test_right_answers_vote_together_however_they_are_written() -> None:
    """Three classes by text, 1/2 and 0.5 and 3; two by meaning, of 2 and 1 votes."""
    votes = [Vote("1/2", correct=True), Vote("0.5", correct=True), wrong("3")]
    assert stats.maj_by_problem({"a": votes}, 3) == {"a": 1.0}


def test_maj_of_pairs() -> None:
    """Right, right, wrong: the pairs are RR (1), RW (1/2), RW (1/2); their mean is 2/3."""
    assert stats.maj_by_problem({"a": [RIGHT, RIGHT, wrong("1")]}, 2) == {"a": 2 / 3}


def test_maj_of_triples_with_a_silent_sample() -> None:
    """R, R, W, none: RRW 1, RRn 1, RWn 1/2 twice; their mean is 3/4."""
    votes = [RIGHT, RIGHT, wrong("1"), NONE]
    assert stats.maj_by_problem({"a": votes}, 3) == {"a": 3 / 4}


def test_maj_of_many_samples_is_exact() -> None:
    """One class each of 64 right and 64 wrong votes is symmetric, so any m gives 1/2."""
    votes = {"a": [RIGHT] * 64 + [wrong("1")] * 64}
    assert stats.maj_by_problem(votes, 40) == {"a": 0.5}


def test_a_correct_vote_has_an_answer() -> None:
    with pytest.raises(ValueError, match="cannot be correct"):
        Vote(None, correct=True)


def test_estimate_by_hand() -> None:
    """Scores 0, 1/4, 1/2, 1/4 of k = 4 samples; A = 1/4, squares sum to 1/8.

    SE = sqrt(1/8 / 12) = 0.1020621; t(0.975, 3) = 3.1824463, half a width 0.3248071.
    Within: 0 + 3/16 + 1/4 + 3/16 = 5/8, over k - 1 = 3 gives 5/24; sqrt(5/24) / 4 = 0.1141089.
    """
    outcomes = outcomes_of([0, 1, 2, 1], 4)
    found = stats.estimate(stats.avg_by_problem(outcomes), outcomes)
    assert found.value == 0.25
    assert found.standard_error == pytest.approx(math.sqrt(1 / 96), abs=1e-15)
    assert found.low == pytest.approx(0.25 - 0.3248071, abs=1e-7)
    assert found.high == pytest.approx(0.25 + 0.3248071, abs=1e-7)
    assert found.problems == 4
    assert found.these_problems_standard_error == pytest.approx(math.sqrt(5 / 24) / 4, abs=1e-15)


def test_estimate_is_not_clipped_to_probabilities() -> None:
    found = stats.estimate({"a": 0.0, "b": 0.25})
    assert found.low is not None
    assert found.low < 0


def test_samples_may_differ_in_number_by_problem() -> None:
    """Half of 2 and half of 4: (1/4) / 1 + (1/4) / 3 = 1/3, so sqrt(1/3) / 2."""
    outcomes = {"a": [True, False], "b": [True, True, False, False]}
    found = stats.estimate(stats.avg_by_problem(outcomes), outcomes)
    assert found.these_problems_standard_error == pytest.approx(math.sqrt(1 / 3) / 2, abs=1e-15)


def test_one_problem_has_a_mean_and_no_interval_over_problems() -> None:
    """1 of 4: these very problems still have sqrt(3/16 / 3) = 1/4. The record stays valid JSON."""
    outcomes = outcomes_of([1], 4)
    found = stats.estimate(stats.avg_by_problem(outcomes), outcomes)
    assert (found.value, found.standard_error, found.low, found.high) == (0.25, None, None, None)
    assert found.these_problems_standard_error == 0.25
    json.dumps(asdict(found), allow_nan=False)


def test_one_sample_says_nothing_about_sampling_again() -> None:
    outcomes = {"a": [True], "b": [False, True]}
    found = stats.estimate(stats.avg_by_problem(outcomes), outcomes)
    assert found.these_problems_standard_error is None
    assert found.standard_error == 0.25


def test_no_problem_and_no_number_are_refused() -> None:
    with pytest.raises(DataError, match="no problem"):
        stats.estimate({})
    with pytest.raises(DataError, match="'b' is nan"):
        stats.estimate({"a": 0.5, "b": math.nan})


@pytest.mark.parametrize(
    "values", [{"p000": 0.5}, {"p000": 0.5, "p001": 1.0}, {"p000": 0.5, "other": 0.25}]
)
def test_outcomes_must_be_those_behind_the_values(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="outcomes must be the samples"):
        stats.estimate(values, outcomes_of([2, 1], 4))


def test_standard_error_is_lm_evals() -> None:
    draws = random.Random(0)
    values = [draws.randint(0, 12) / 12 for _ in range(400)]
    found = stats.estimate(by_number(values))
    assert found.standard_error == pytest.approx(mean_stderr(values), abs=1e-12, rel=1e-12)


def test_difference_by_hand() -> None:
    """d = 1/2, 1/4, 1/4, 0; mean 1/4, squares about it 1/8, SE = sqrt(1/8 / 12).

    Of the 8 signs of the three that differ only +++ and --- move the mean as far: p = 1/4.
    z(0.975) + z(0.8) = 1.9599640 + 0.8416212, times the SE.
    """
    first, second = by_number([0.75, 0.5, 0.25, 0.5]), by_number([0.25, 0.25, 0.0, 0.5])
    found = stats.paired_difference([first], [second])
    error = math.sqrt(1 / 96)
    assert found.value == 0.25
    assert found.standard_error == pytest.approx(error, abs=1e-15)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(0.25 - 0.3248071, abs=1e-7)
    assert found.interval.high == pytest.approx(0.25 + 0.3248071, abs=1e-7)
    assert found.p_value == 0.25
    assert found.minimum_detectable == pytest.approx(2.8015852 * error, abs=1e-7)
    assert found.problems == 4
    assert found.seeds is None
    assert stats.paired_difference([first], [first]).p_value == 1.0


def test_a_tie_with_what_was_seen_counts_as_extreme() -> None:
    """d = -0.4, -0.2, 0.2: |sum| is 0.8, 0.4, 0.4, 0 twice each, and 0.4 was seen: p = 6/8.

    In floats the sums that should be 0.4 differ by rounding.
    """
    found = stats.paired_difference([by_number([-0.4, -0.2, 0.2])], [by_number([0.0] * 3)])
    assert found.p_value == 6 / 8


def test_seeds_are_averaged_by_problem_before_they_are_paired() -> None:
    """First: means 1/2 and 1/4 over seeds; second: 1/4 and 1/4. d = 1/4 and 0, SE = 1/8."""
    first = [{"a": 0.25, "b": 0.0}, {"b": 0.5, "a": 0.75}]
    found = stats.paired_difference(first, [{"a": 0.25, "b": 0.25}])
    assert found.value == 0.125
    assert found.standard_error == pytest.approx(0.125, abs=1e-15)
    assert found.seeds is not None


def test_the_pattern_seen_counts_among_those_drawn() -> None:
    """100 equal differences: 2 of 2^100 patterns are as extreme; none is drawn, one was seen."""
    scores, zero = by_number([0.5] * 100), by_number([0.0] * 100)
    assert stats.paired_difference([scores], [zero]).p_value == 1 / 10_001
    assert stats.paired_difference([scores], [zero], replicates=99).p_value == 1 / 100


def test_all_patterns_are_tried_where_twelve_problems_differ() -> None:
    """12 equal differences among 100 problems: 2 of 2^12 patterns, without any draw."""
    scores, zero = by_number([0.5] * 12 + [0.0] * 88), by_number([0.0] * 100)
    assert stats.paired_difference([scores], [zero], replicates=1).p_value == 2 / 2**12


def test_drawn_p_value_is_near_the_exact_one() -> None:
    """15 of 20 problems gain 1/12, 5 lose it: P(|B - 10| >= 5), B of 20 coins, is 0.0413895."""
    gains = by_number([1 / 12] * 15 + [-1 / 12] * 5)
    found = stats.paired_difference([gains], [by_number([0.0] * 20)])
    assert found.p_value == pytest.approx(0.0413895, abs=4 * math.sqrt(0.0414 * 0.9586 / 10_000))


def test_p_value_does_not_depend_on_the_unit() -> None:
    draws = random.Random(3)
    values = [draws.gauss(0.1, 1) for _ in range(100)]
    zero = by_number([0.0] * 100)
    unit = stats.paired_difference([by_number(values)], [zero]).p_value
    tiny = stats.paired_difference([by_number([v * 2.0**-40 for v in values])], [zero]).p_value
    assert unit == tiny
    assert 0 < unit < 1


def test_bootstrap_by_problem_has_the_spread_of_the_mean() -> None:
    """Its standard deviation is sqrt((n - 1) / n) SE; percentiles lie 1.96 of them off."""
    draws = random.Random(5)
    values = by_number([draws.gauss(0.2, 0.3) for _ in range(400)])
    found = stats.paired_difference([values], [by_number([0.0] * 400)])
    assert found.bootstrap is not None
    assert found.standard_error is not None
    half = 1.96 * found.standard_error
    assert found.bootstrap.low == pytest.approx(found.value - half, abs=0.06 * half)
    assert found.bootstrap.high == pytest.approx(found.value + half, abs=0.06 * half)


def test_seed_interval_of_one_seed_is_the_bootstrap_by_problem() -> None:
    draws = random.Random(6)
    scores = by_number([draws.random() for _ in range(60)])
    found = stats.seed_interval([scores])
    paired = stats.paired_difference([scores], [by_number([0.0] * 60)]).bootstrap
    assert found is not None
    assert paired is not None
    width = paired.high - paired.low
    assert found.low == pytest.approx(paired.low, abs=0.05 * width)
    assert found.high == pytest.approx(paired.high, abs=0.05 * width)


def test_seed_interval_where_only_seeds_differ() -> None:
    """Problems alike, seeds 0 and 1: the mean of two drawn seeds is 0, 1/2, 1 by 1/4, 1/2, 1/4."""
    flat = [by_number([0.0] * 5), by_number([1.0] * 5)]
    assert stats.seed_interval(flat) == Interval(0.0, 1.0)


def test_seeds_of_two_conditions_are_drawn_apart() -> None:
    """Both have seeds 0 and 1 on all problems; drawn apart the difference reaches -1 and 1."""
    flat = [by_number([0.0] * 5), by_number([1.0] * 5)]
    found = stats.paired_difference(flat, flat)
    assert found.seeds == Interval(-1.0, 1.0)
    assert found.bootstrap == Interval(0.0, 0.0)


def test_problems_are_drawn_together_for_both_conditions() -> None:
    """Every seed of either condition has the same scores: no draw of problems can part them."""
    scores = by_number([0.0, 0.25, 0.5, 1.0])
    found = stats.paired_difference([scores] * 3, [scores] * 2).seeds
    assert found is not None
    assert found.low == pytest.approx(0, abs=1e-12)
    assert found.high == pytest.approx(0, abs=1e-12)


def test_one_problem_leaves_the_difference_without_uncertainty() -> None:
    found = stats.paired_difference([{"a": 0.5}, {"a": 1.0}], [{"a": 0.25}])
    assert (found.value, found.p_value, found.problems) == (0.5, 1.0, 1)
    unknown = (found.standard_error, found.interval, found.bootstrap, found.seeds)
    assert unknown == (None, None, None, None)
    assert found.minimum_detectable is None
    assert stats.seed_interval([{"a": 0.5}, {"a": 1.0}]) is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [{"a": 1.0}], "nothing to compare"),
        ([{"a": 1.0}], [], "nothing to compare"),
        ([{}], [{}], "nothing to compare"),
        ([{"a": 1.0}], [{"b": 1.0}], "not on the same problems: 2 .* for example 'a'"),
        ([{"a": 1.0}, {"a": 1.0, "c": 0.0}], [{"a": 1.0}], "for example 'c'"),
        ([{"a": 1.0}], [{}], "for example 'a'"),
        ([{"a": math.inf}], [{"a": 1.0}], "'a' is inf"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        stats.paired_difference(first, second)


def test_holm_by_hand() -> None:
    """Sorted .01 x 4, .02 x 3, .03 x 2, .9 x 1 = .04, .06, .06, .9."""
    found = stats.holm({"d": 0.9, "b": 0.02, "a": 0.01, "c": 0.03})
    assert list(found) == ["d", "b", "a", "c"]
    assert found == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.9}, abs=1e-15)


def test_holm_never_falls_and_never_passes_one() -> None:
    """.04 x 3 = .12; .05 x 2 = .10 is raised to .12; .8 stays. And .6 x 2 is capped."""
    assert stats.holm({"a": 0.04, "b": 0.05, "c": 0.8}) == {"a": 0.12, "b": 0.12, "c": 0.8}
    assert stats.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert stats.holm({}) == {}


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_takes_probabilities(p: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        stats.holm({"a": 0.5, "b": p})


def test_power_by_hand() -> None:
    """var = 0.01 + (0.12 + 0.24) / 12 = 0.04; (1.9599640 + 0.8416212)^2 = 7.8488797.

    400 problems show sqrt(7.8488797 x 0.04 / 400) = 0.0280159. An effect of 0.05 takes
    7.8488797 x 0.04 / 0.0025 = 125.58, so 126 problems. With 90 % power at 1 % the sum of z is
    2.5758293 + 1.2815516, its square 14.8793864, and 238.07, so 239.
    """
    variance = stats.difference_variance(between=0.01, first=0.12, second=0.24, samples=12)
    assert variance == pytest.approx(0.04, abs=1e-15)
    assert stats.minimum_detectable_effect(variance, 400) == pytest.approx(0.0280159, abs=1e-7)
    assert stats.problems_needed(variance, 0.05) == 126
    assert stats.problems_needed(variance, -0.05) == 126
    assert stats.problems_needed(variance, 0.05, power=0.9, alpha=0.01) == 239


def test_problems_needed_at_the_limits() -> None:
    assert stats.problems_needed(0.0, 0.1) == 2
    with pytest.raises(ValueError, match="an effect of 0"):
        stats.problems_needed(0.04, 0.0)


def test_variance_of_one_sample_follows_from_a_stored_metric() -> None:
    """As documented: n k e^2. Shares 1/4 and 1/2 of k = 4 samples: s(1-s) k/(k-1) = 1/4 and 1/3."""
    outcomes = outcomes_of([1, 2], 4)
    error = stats.estimate(stats.avg_by_problem(outcomes), outcomes).these_problems_standard_error
    assert error is not None
    assert 2 * 4 * error**2 == pytest.approx((1 / 4 + 1 / 3) / 2, abs=1e-15)


def test_a_pooled_mean_by_hand() -> None:
    """Sums 1 and 0 over 1 and 2 samples: R = 1/3, mean number 1.5; 1/3 + (1 - 1/3) / 1.5 = 7/9 and
    1/3 - (2/3) / 1.5 = -1/9 lie 4/9 from R, so the error is sqrt(2 (4/9)^2 / 2) = 4/9.
    """
    found = stats.pooled_estimate({"a": [1.0], "b": [0.0, 0.0], "c": []})
    assert found.value == pytest.approx(1 / 3, abs=1e-15)
    assert found.standard_error == pytest.approx(4 / 9, abs=1e-15)
    assert found.problems == 2
    assert found.high is not None
    assert found.high == pytest.approx(1 / 3 + 12.706204736 * 4 / 9, abs=1e-8)


def test_a_pooled_mean_of_equal_numbers_is_the_mean_of_means() -> None:
    samples = {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 0.0]}
    by_problem = {"a": 0.5, "b": 1.0, "c": 0.0}
    pooled, plain = asdict(stats.pooled_estimate(samples)), asdict(stats.estimate(by_problem))
    assert pooled == pytest.approx(plain, abs=1e-12)


def test_a_pooled_mean_of_one_problem_has_no_interval() -> None:
    found = stats.pooled_estimate({"a": [1.0, 0.0]})
    assert (found.value, found.standard_error, found.low) == (0.5, None, None)
    with pytest.raises(DataError, match="no sample"):
        stats.pooled_estimate({"a": []})
    with pytest.raises(DataError, match="'a' is nan"):
        stats.pooled_estimate({"a": [math.nan], "b": [1.0]})


def ratio(sums_RC: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        quotient_R: NDArray[np.float64] = sums_RC[:, 0] / sums_RC[:, 1]
    return quotient_R


def test_a_bootstrap_of_sums_by_hand() -> None:
    """Of two problems, aa and bb are a quarter of the draws each, so the ends are theirs: 1 and 0."""
    found = stats.bootstrap_of_sums({"a": [1, 1], "b": [0, 1]}, ratio)
    assert found == Interval(0.0, 1.0)
    assert stats.bootstrap_of_sums({"b": [0, 1], "a": [1, 1]}, ratio) == found
    assert stats.bootstrap_of_sums({"a": [1, 2], "b": [2, 4]}, ratio) == Interval(0.5, 0.5)
    assert stats.bootstrap_of_sums({"a": [1, 2]}, ratio) is None


def test_a_bootstrap_whose_draws_often_have_no_value_gives_none() -> None:
    """Nothing of b is counted: bb, a quarter of the draws, has no ratio. Of eleven, few lack one."""
    assert stats.bootstrap_of_sums({"a": [1, 1], "b": [0, 0]}, ratio) is None
    some = {f"a{n}": [n % 2, 1] for n in range(10)} | {"b": [0, 0]}
    found = stats.bootstrap_of_sums(some, ratio)
    assert found is not None and 0 < found.low < 0.5 < found.high < 1


def test_what_cannot_be_drawn_from_is_refused() -> None:
    with pytest.raises(DataError, match="no problem"):
        stats.bootstrap_of_sums({}, ratio)
    with pytest.raises(DataError, match="not finite"):
        stats.bootstrap_of_sums({"a": [math.inf, 1], "b": [0, 1]}, ratio)


@pytest.mark.parametrize(("score", "low", "high"), [(0.0, 0.0, 0.2180), (1.0, 0.7820, 1.0)])
def test_shares_that_are_all_alike_have_an_exact_interval(
    score: float, low: float, high: float
) -> None:
    """Of 15 problems: 1 - 0.025^(1/15) = 0.2180, as Clopper and Pearson give for 0 of 15."""
    same = {f"p{n}": score for n in range(15)}
    found = stats.estimate(same, share=True)
    assert (found.value, found.standard_error) == (score, 0.0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    pooled = stats.pooled_estimate({p: [s, s] for p, s in same.items()}, share=True)
    assert (pooled.low, pooled.high) == (found.low, found.high)
    plain = stats.estimate(same)
    assert (plain.low, plain.high) == (score, score), "what is no share has no end to go to"
    between = stats.estimate({"a": 0.5, "b": 0.5}, share=True)
    assert (between.low, between.high) == (0.5, 0.5)


def test_where_no_problem_differs_nothing_is_known_of_what_could_be_seen() -> None:
    """A minimum detectable effect of 0 would say that any difference would have been seen."""
    found = stats.paired_difference([{"a": 0.0, "b": 0.0}], [{"a": 0.0, "b": 0.0}])
    assert (found.value, found.p_value, found.minimum_detectable) == (0.0, 1.0, None)
