"""Simulated studies with known truth: intervals cover what they say, tests err as they say.

Each study draws problems with chances of a right answer, then samples. Bounds leave about three
standard errors of the simulation, which is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sdbench import stats
from sdbench.stats import Interval

K = 12
# Chances of the shape the study saw: most problems rarely solved, mean 0.3.
CHANCE = (0.6, 1.4)
IDS = [f"p{number:03d}" for number in range(400)]


def scores(values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(IDS, values.tolist(), strict=False))


def covered(intervals: Sequence[Interval], truth: float) -> float:
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def test_t_interval_of_avg_covers() -> None:
    """2,000 studies of 60 problems with 12 samples each; the truth is the mean chance, 0.3."""
    draws = np.random.default_rng(1)
    right = draws.binomial(K, draws.beta(*CHANCE, (2000, 60)))
    found = [stats.estimate(scores(row / K)) for row in right]
    intervals = [Interval(m.low, m.high) for m in found if m.low is not None and m.high is not None]
    assert len(intervals) == 2000
    assert 0.93 <= covered(intervals, 0.3) <= 0.97


def test_error_over_these_problems_is_the_spread_of_repeated_sampling() -> None:
    """The same 60 problems sampled 2,000 times: the spread of Avg@12 is what each study states.

    A standard deviation of 2,000 draws is known to 1.6 %.
    """
    draws = np.random.default_rng(2)
    chances = draws.beta(*CHANCE, 60)
    right = draws.random((2000, 60, K)) < chances[:, None]
    stated = []
    for study in right[:200]:
        outcomes = dict(zip(IDS, study.tolist(), strict=False))
        error = stats.estimate(
            stats.avg_by_problem(outcomes), outcomes
        ).these_problems_standard_error
        assert error is not None
        stated.append(error**2)
    spread = right.mean(axis=(1, 2)).std(ddof=1)
    assert np.sqrt(np.mean(stated)) == pytest.approx(spread, rel=0.05)


def rejections(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Share of studies with p <= 0.05; with 199 drawn patterns and the one seen, p can hit 0.05."""
    p_values = [
        stats.paired_difference([scores(a)], [scores(b)], replicates=199, seed=number).p_value
        for number, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return float(np.mean(np.array(p_values) <= 0.05))


@pytest.mark.parametrize(
    ("problems", "level"), [(6, 2 / 64), (10, 50 / 1024), (12, 204 / 4096), (40, 0.05)]
)
def test_sign_flips_err_as_often_as_they_say(problems: int, level: float) -> None:
    """Two equal conditions, scores without ties (as lengths are).

    All patterns are tried up to 12 problems, so p is an even multiple of 2^-n and the level the
    largest such multiple up to 0.05. Three standard errors of 2,000 studies are 1.5 %.
    """
    draws = np.random.default_rng(problems)
    difficulty = draws.beta(*CHANCE, (2000, problems))
    first, second = draws.normal(difficulty, 0.2), draws.normal(difficulty, 0.2)
    assert rejections(first, second) == pytest.approx(level, abs=0.015)


def test_sign_flips_err_no_more_often_where_sums_tie() -> None:
    """Avg@12 comes in twelfths, so sums tie, and a tie counts as extreme: 5 % is not exceeded.

    Of 40 problems about 27 differ, and little of the level is lost.
    """
    draws = np.random.default_rng(3)
    chances = draws.beta(*CHANCE, (2000, 40))
    first, second = draws.binomial(K, chances) / K, draws.binomial(K, chances) / K
    assert 0.03 <= rejections(first, second) <= 0.06


def test_paired_interval_covers_a_true_difference() -> None:
    """The second condition's chances are the first's squared; E[c - c^2] = 0.3 - 0.16 = 0.14.

    Beta(0.6, 1.4): E[c^2] = 0.6 x 1.6 / (2 x 3) = 0.16.
    """
    draws = np.random.default_rng(4)
    chances = draws.beta(*CHANCE, (1000, 100))
    first, second = draws.binomial(K, chances) / K, draws.binomial(K, chances**2) / K
    found = [
        stats.paired_difference([scores(a)], [scores(b)], replicates=400, seed=number)
        for number, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    intervals = [one.interval for one in found if one.interval is not None]
    bootstraps = [one.bootstrap for one in found if one.bootstrap is not None]
    assert len(intervals) == len(bootstraps) == 1000
    assert 0.93 <= covered(intervals, 0.14) <= 0.97
    assert 0.92 <= covered(bootstraps, 0.14) <= 0.97


def test_problems_needed_give_the_power_they_promise() -> None:
    """Chances shifted by 0.05 on all problems: var_d = 0, var_A and var_B are means of c (1 - c).

    The second's c is half a Beta(2, 4) plus 0.2, so E[c] = 1/6 + 0.2 = 0.3667 and var(c) = (8 / 252)
    / 4 = 0.0079; the first's mean is 0.4167. Then var_A = 0.4167 x 0.5833 - 0.0079 = 0.2351 and
    var_B = 0.3667 x 0.6333 - 0.0079 = 0.2243.
    """
    variance = stats.difference_variance(between=0.0, first=0.2351, second=0.2243, samples=K)
    problems = stats.problems_needed(variance, 0.05)
    draws = np.random.default_rng(5)
    chances = draws.beta(2, 4, (1000, problems)) / 2 + 0.2
    first, second = draws.binomial(K, chances + 0.05) / K, draws.binomial(K, chances) / K
    assert 0.76 <= rejections(first, second) <= 0.84


@pytest.mark.parametrize(
    ("spread", "seeds", "low", "high"),
    [(1, 3, 0.91, 0.97), (3, 1, 0.42, 0.56), (3, 3, 0.80, 0.90), (3, 10, 0.90, 0.97)],
)
def test_two_level_bootstrap_covers_what_its_docstring_admits(
    spread: float, seeds: int, low: float, high: float
) -> None:
    """400 studies of 400 problems; seeds spread `spread` times the standard error over problems.

    With one seed nothing of that spread is seen; with three, two thirds of it.
    """
    draws = np.random.default_rng([6, seeds, int(spread)])
    intervals = []
    for number in range(400):
        problems = draws.normal(0, 0.3, 400)
        shift = draws.normal(0, spread * 0.3 / np.sqrt(400), (seeds, 1))
        by_seed = 0.3 + shift + problems + draws.normal(0, 0.13, (seeds, 400))
        found = stats.seed_interval([scores(row) for row in by_seed], replicates=300, seed=number)
        assert found is not None
        intervals.append(found)
    assert low <= covered(intervals, 0.3) <= high
