"""Statistics of repeated sampling: scores by problem, and what can be said about their means.

In: outcomes of k samples for each problem. Out: scores by problem, then estimates and differences
with intervals. The unit of everything is the problem: samples of one problem are not independent,
so an interval that counts samples is far too narrow (a binomial one over 30 x 12 samples covers
57 % where it says 95 %).

Sources: 2411.00640 (clustered and paired standard errors), 2107.03374 (Pass@m). Departure: Maj@m
votes on classes of equal answers and splits ties evenly, where others break them by order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from sdbench.errors import DataError
from sdbench.records import Metric

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.80
REPLICATES = 10_000
EXACT_SIGN_FLIPS = 12

ByProblem = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Vote:
    """One sample's answer.

    Attributes:
        answer: In canonical form; None casts no vote.
        correct: All correct answers count as one class, however they are written.
    """

    answer: str | None
    correct: bool


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of one condition minus mean of another, on the same problems.

    Attributes:
        value: The difference.
        standard_error: Paired by problem; None for one problem.
        interval: t interval over problems, for these training seeds; None for one problem.
        p_value: Two-sided, by flipping signs of the problems' differences.
        bootstrap: Percentile interval, problems drawn with replacement.
        seeds: Percentile interval, training seeds and problems drawn with replacement; None if
            neither side has more than one seed.
        problems: How many.
        minimum_detectable: The smallest true difference that as many problems would show with
            80 % power at a level of 5 %; None for one problem.
    """

    value: float
    standard_error: float | None
    interval: Interval | None
    p_value: float
    bootstrap: Interval
    seeds: Interval | None
    problems: int
    minimum_detectable: float | None


def avg_by_problem(outcomes: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Avg@k of each problem: the share of its samples that are right."""
    return {problem: sum(samples) / len(samples) for problem, samples in outcomes.items()}


def pass_by_problem(outcomes: Mapping[str, Sequence[bool]], m: int) -> dict[str, float]:
    """Pass@m of each problem: the chance that m of its k samples hold a right one.

    Unbiased: 1 - C(k - c, m) / C(k, m) with c right ones. Source: 2107.03374, equation 1.

    Raises:
        DataError: m is not between 1 and the number of samples.
    """
    scores = {}
    for problem, samples in outcomes.items():
        k = len(samples)
        _refuse_subset(problem, m, k)
        scores[problem] = 1 - math.comb(k - sum(samples), m) / math.comb(k, m)
    return scores


def maj_by_problem(votes: Mapping[str, Sequence[Vote]], m: int) -> dict[str, float]:
    """Maj@m of each problem: the credit of a majority vote among m of its k samples.

    The credit is 1 over the number of classes tied for most votes if the correct one is among
    them, else 0; where nobody votes it is 0. For m < k it is the exact mean over all subsets of
    m samples, counted class by class.

    Raises:
        DataError: m is not between 1 and the number of samples.
    """
    scores = {}
    for problem, cast in votes.items():
        _refuse_subset(problem, m, len(cast))
        right = sum(vote.correct for vote in cast)
        wrong = Counter(v.answer for v in cast if not v.correct and v.answer is not None)
        scores[problem] = _majority_credit(right, tuple(wrong.values()), len(cast), m)
    return scores


def estimate(
    values: ByProblem, outcomes: Mapping[str, Sequence[bool]] | None = None
) -> Metric:
    """The mean over problems with its uncertainty.

    The standard error over problems of this kind is sqrt(sum (s - A)^2 / (n (n - 1))), its interval
    a t interval with n - 1 degrees of freedom, not clipped to [0, 1]. Over these very problems it is
    sqrt(sum s (1 - s) / (k - 1)) / n. For a single problem the former is undefined (None).

    Args:
        values: A score for each problem.
        outcomes: The samples behind an Avg@k; gives the standard error over these problems.

    Raises:
        DataError: there is no problem.
    """
    if not values:
        raise DataError("no problem to average over; allowed: at least one")
    n = len(values)
    mean = fmean(values.values())
    within = None if outcomes is None else _within_problems(outcomes)
    if n == 1:
        return Metric(mean, None, None, None, n, within)
    error = math.sqrt(sum((value - mean) ** 2 for value in values.values()) / (n * (n - 1)))
    half = _t_quantile(n - 1) * error
    return Metric(mean, error, mean - half, mean + half, n, within)


def paired_difference(first: Sequence[ByProblem], second: Sequence[ByProblem]) -> Difference:
    """Compares two conditions on the same problems.

    Scores are averaged over each side's training seeds, then paired by problem. Standard error,
    t interval, p-value and bootstrap are over problems and hold for these trained models; only
    `seeds` also draws training seeds. With two or three seeds that interval is too narrow still:
    so few seeds can hardly show how far a fourth would lie off.

    Args:
        first: One mapping of scores by problem for each training seed.
        second: The same for the other condition.

    Raises:
        DataError: a side is empty, or problems differ.
    """
    import numpy as np

    problems = _common_problems([*first, *second])
    first_KN, second_KN = _matrix(first, problems), _matrix(second, problems)
    difference_N = first_KN.mean(0) - second_KN.mean(0)
    n = len(problems)
    value = float(difference_N.mean())
    error = float(difference_N.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    half = None if error is None else _t_quantile(n - 1) * error
    rng = np.random.default_rng(0)
    several = max(len(first), len(second)) > 1
    return Difference(
        value=value,
        standard_error=error,
        interval=None if half is None else Interval(value - half, value + half),
        p_value=_sign_flip_p(difference_N, rng),
        bootstrap=_percentiles(_resampled_means(difference_N, rng)),
        seeds=_two_level(first_KN, second_KN, rng) if several else None,
        problems=n,
        minimum_detectable=None if error is None else minimum_detectable_effect(error),
    )


def seed_interval(by_seed: Sequence[ByProblem]) -> Interval:
    """Two-level bootstrap of one condition's mean: seeds, then problems, with replacement.

    With one seed this is the bootstrap over problems. With two or three it is too narrow; see
    `paired_difference`.

    Raises:
        DataError: there is no seed, or problems differ between seeds.
    """
    import numpy as np

    scores_KN = _matrix(by_seed, _common_problems(by_seed))
    return _two_level(scores_KN, np.zeros((1, scores_KN.shape[1])), np.random.default_rng(0))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: reject those at most alpha, and the family-wise error is alpha."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: (p_values[key], key))):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def minimum_detectable_effect(
    standard_error: float, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The smallest true difference shown with this power: (z_{1-alpha/2} + z_power) times the error.

    It is the design formula n = (z_a/2 + z_b)^2 var / delta^2 solved for delta, with the measured
    standard error of the paired difference in place of sqrt(var / n). Source: 2411.00640, section 5.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * standard_error)


def _refuse_subset(problem: str, m: int, k: int) -> None:
    if not 1 <= m <= k:
        raise DataError(f"problem {problem}: m = {m}, found {k} samples; allowed: 1 to {k}")


def _majority_credit(right: int, wrong: Sequence[int], k: int, m: int) -> float:
    silent = k - right - sum(wrong)
    credit = 0.0
    for top in range(1, min(right, m) + 1):
        # ways[size, ties]: choices from the wrong classes, none above `top`, `ties` of them at it.
        ways: Counter[tuple[int, int]] = Counter({(0, 0): 1})
        for count in wrong:
            grown: Counter[tuple[int, int]] = Counter()
            for (size, ties), number in ways.items():
                for picked in range(min(count, top, m - top - size) + 1):
                    key = (size + picked, ties + (picked == top))
                    grown[key] += number * math.comb(count, picked)
            ways = grown
        for (size, ties), number in ways.items():
            rest = math.comb(silent, m - top - size)
            credit += math.comb(right, top) * number * rest / (1 + ties)
    return credit / math.comb(k, m)


def _within_problems(outcomes: Mapping[str, Sequence[bool]]) -> float | None:
    if any(len(samples) < 2 for samples in outcomes.values()):
        return None
    total = 0.0
    for samples in outcomes.values():
        share = sum(samples) / len(samples)
        total += share * (1 - share) / (len(samples) - 1)
    return math.sqrt(total) / len(outcomes)


def _t_quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, degrees))


def _common_problems(sides: Sequence[ByProblem]) -> list[str]:
    if not sides or not sides[0]:
        raise DataError("nothing to compare: no training seed, or no problem")
    problems = list(sides[0])
    for side in sides[1:]:
        odd = set(side) ^ set(problems)
        if odd:
            raise DataError(f"conditions were scored on other problems; for example {min(odd)!r}")
    return problems


def _matrix(sides: Sequence[ByProblem], problems: Sequence[str]) -> np.ndarray:
    """Scores by training seed and problem, [K, N]."""
    import numpy as np

    return np.array([[side[problem] for problem in problems] for side in sides])


def _sign_flip_p(difference_N: np.ndarray, rng: np.random.Generator) -> float:
    import numpy as np

    n = len(difference_N)
    observed = abs(difference_N.sum())
    if n <= EXACT_SIGN_FLIPS:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        sums = (1 - 2 * bits) @ difference_N
        return float((np.abs(sums) >= observed - 1e-12).mean())
    signs_RN = rng.integers(0, 2, (REPLICATES, n), dtype=np.int8) * np.int8(2) - np.int8(1)
    sums = signs_RN.astype(np.float32) @ difference_N.astype(np.float32)
    # float32 sums of a few hundred terms are good to 1e-4, which ties must survive.
    extreme = int((np.abs(sums) >= observed - 1e-4).sum())
    return (extreme + 1) / (REPLICATES + 1)


def _resampled_means(values_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of problems drawn with replacement, [REPLICATES]."""
    n = len(values_N)
    means: np.ndarray = values_N[rng.integers(0, n, (REPLICATES, n))].mean(1)
    return means


def _two_level(
    first_KN: np.ndarray, second_KN: np.ndarray, rng: np.random.Generator
) -> Interval:
    """Percentiles of the difference of means; sides draw seeds apart and share the problems."""
    import numpy as np

    n = first_KN.shape[1]
    problems_RN = rng.integers(0, n, (REPLICATES, n))

    def mean_R(side_KN: np.ndarray) -> np.ndarray:
        seeds = len(side_KN)
        weights_KR = rng.multinomial(seeds, [1 / seeds] * seeds, REPLICATES).T / seeds
        means_KR = np.stack([scores_N[problems_RN].mean(1) for scores_N in side_KN])
        mixed: np.ndarray = (means_KR * weights_KR).sum(0)
        return mixed

    return _percentiles(mean_R(first_KN) - mean_R(second_KN))


def _percentiles(values: np.ndarray) -> Interval:
    import numpy as np

    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))
