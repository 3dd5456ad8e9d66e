"""Statistics of repeated sampling: scores by problem, and what can be said about their means.

In: outcomes or votes of the k samples of each problem. Out: a score for each problem, then means
and paired differences with their uncertainty. The unit of everything is the problem, because the
samples of one problem are not independent: an interval that counts samples is far too narrow (a
binomial one over 30 problems with 12 samples covers 57 % where it says 95 %).

With one problem nothing can be said about problems of its kind, and what would say it is None.
Where every problem scored the same the standard error is 0: no spread was seen, which is not to say
that there is none. Of shares that are all 0, or all 1, the interval then has its exact far end; of
differences that are all 0 nobody can say what would have stayed hidden.

Departures: Maj@m votes on classes of equal answers and splits ties evenly, where others compare
strings and break ties by order. Intervals are not clipped to [0, 1].

Sources: 2411.00640 (errors clustered and paired by problem, power), 2107.03374 (Pass@m), Owen, The
pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) 386 (problems and seeds drawn apart).

Dimensions: R replicates, K training seeds, P problems, C sums.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import NormalDist
from typing import TYPE_CHECKING

from sdbench.errors import DataError
from sdbench.records import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.80
REPLICATES = 10_000
EXACT_SIGN_FLIPS = 12
_BATCH = 500

ByProblem = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Vote:
    """One sample's answer.

    Attributes:
        answer: In canonical form; None casts no vote.
        correct: All correct answers are one class, however they are written.
    """

    answer: str | None
    correct: bool

    def __post_init__(self) -> None:
        if self.correct and self.answer is None:
            raise ValueError("a vote without an answer cannot be correct")


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the first condition minus mean of the second, on the same problems.

    All but `seeds` hold for these trained models and vary the problems only.

    Attributes:
        value: The difference.
        standard_error: Paired by problem; None for one problem.
        interval: t interval that goes with `standard_error`; None for one problem.
        p_value: Two-sided, by flipping the signs of the problems' differences.
        bootstrap: Percentiles, problems drawn with replacement; None for one problem.
        seeds: Percentiles, training seeds and problems drawn with replacement; None for one
            problem, or where neither condition has more than one seed.
        problems: How many.
        minimum_detectable: The true difference that as many problems show with 80 % power at a
            level of 5 %; None for one problem, or where no problem differs from another.
    """

    value: float
    standard_error: float | None
    interval: Interval | None
    p_value: float
    bootstrap: Interval | None
    seeds: Interval | None
    problems: int
    minimum_detectable: float | None


def avg_by_problem(outcomes: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Avg@k of each problem: the share of its samples that are right.

    Raises:
        DataError: a problem has no sample.
    """
    for problem, samples in outcomes.items():
        _require_subset(problem, 1, len(samples))
    return {problem: sum(samples) / len(samples) for problem, samples in outcomes.items()}


def pass_by_problem(outcomes: Mapping[str, Sequence[bool]], m: int) -> dict[str, float]:
    """Pass@m of each problem: the chance that m of its k samples hold a right one.

    Unbiased: 1 - C(k - c, m) / C(k, m), where c samples are right. Source: 2107.03374, equation 1.

    Raises:
        DataError: m is not between 1 and a problem's number of samples.
    """
    scores = {}
    for problem, samples in outcomes.items():
        k = len(samples)
        _require_subset(problem, m, k)
        subsets = math.comb(k, m)
        scores[problem] = (subsets - math.comb(k - sum(samples), m)) / subsets
    return scores


def maj_by_problem(votes: Mapping[str, Sequence[Vote]], m: int) -> dict[str, float]:
    """Maj@m of each problem: the credit of a majority vote among m of its k samples.

    Classes are the correct answers together, and wrong answers by equal text. The credit is 1 over
    the number of classes tied for most votes if the correct one is among them, else 0; where
    nobody votes it is 0. For m < k it is the mean over all subsets of m samples. That mean is
    exact: subsets are counted class by class, never listed and never drawn.

    Raises:
        DataError: m is not between 1 and a problem's number of samples.
    """
    scores = {}
    for problem, ballots in votes.items():
        k = len(ballots)
        _require_subset(problem, m, k)
        right = sum(vote.correct for vote in ballots)
        wrong = Counter(v.answer for v in ballots if not v.correct and v.answer is not None)
        credit = _subset_credit(right, sorted(wrong.values()), k - right - wrong.total(), m)
        scores[problem] = float(credit / math.comb(k, m))
    return scores


def estimate(
    values: ByProblem,
    outcomes: Mapping[str, Sequence[bool]] | None = None,
    *,
    share: bool = False,
) -> Metric:
    """The mean over problems with its uncertainty.

    With n problems of scores s and mean A, the standard error over problems of this kind is
    sqrt(sum (s - A)^2 / (n (n - 1))), its interval a t interval with n - 1 degrees of freedom. Over
    these very problems, were they sampled again, it is sqrt(sum s (1 - s) / (k - 1)) / n.
    Source: 2411.00640.

    Where all of n shares are 0, or all 1, no spread can be seen and the t interval would have no width.
    Its far end is then 1 - 0.025^(1/n) away: were that share of problems otherwise, all n would miss
    them with a chance of 2.5 %. Source: Clopper and Pearson (1934).

    Args:
        values: A score for each problem.
        outcomes: The samples behind `values`, where these are an Avg@k.
        share: The scores lie between 0 and 1.

    Returns:
        The mean. Its standard error and interval are None for one problem; its standard error over
        these problems is None without `outcomes`, or where a problem has a single sample.

    Raises:
        DataError: there is no problem, or a score is not finite.
        ValueError: `values` is not the Avg@k of `outcomes`.
    """
    if not values:
        raise DataError("no problem to average over; allowed: at least one")
    _require_finite(values)
    n = len(values)
    mean = math.fsum(values.values()) / n
    these = None if outcomes is None else _error_within_problems(values, outcomes)
    if n == 1:
        return Metric(mean, None, None, None, n, these)
    error = math.sqrt(math.fsum((s - mean) ** 2 for s in values.values()) / (n * (n - 1)))
    half = _t_quantile(n - 1) * error
    low, high = mean - half, mean + half
    if share and error == 0 and mean in (0, 1):
        unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
        low, high = (0.0, unseen) if mean == 0 else (1 - unseen, 1.0)
    return Metric(mean, error, low, high, n, these)


def pooled_estimate(samples: Mapping[str, Sequence[float]], *, share: bool = False) -> Metric:
    """The mean over all samples, clustered by problem, where problems have unequal numbers of them.

    With sum y and number x of each of n problems the mean is R = sum y / sum x. Its standard error and
    interval are those that `estimate` gives for R + (y - R x) n / sum x, so for equal numbers it is
    `estimate` of the problems' means. Problems without a sample do not count. Source: the ratio
    estimator, Cochran, Sampling Techniques (1977) 6.4; 2411.00640, on clustered errors, has n in place
    of n - 1.

    Args:
        samples: Values of each problem.
        share: They lie between 0 and 1; see `estimate`.

    Raises:
        DataError: there is no sample, or a value is not finite.
    """
    held = {problem: values for problem, values in samples.items() if values}
    if not held:
        raise DataError("no sample to average over; allowed: at least one")
    sums = {problem: math.fsum(values) for problem, values in held.items()}
    _require_finite(sums)
    size = sum(map(len, held.values())) / len(held)
    ratio = math.fsum(sums.values()) / len(held) / size
    apart = {p: ratio + (sums[p] - ratio * len(values)) / size for p, values in held.items()}
    return replace(estimate(apart, share=share), value=ratio)


def bootstrap_of_sums(
    sums: Mapping[str, Sequence[float]],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """Percentiles of a function of sums, problems drawn with replacement.

    Args:
        sums: What each problem adds, [C] for every problem.
        statistic: From sums over the drawn problems, [R, C], up to a common factor, to values, [R];
            NaN where there is none, such as a share of nothing.
        replicates: Bootstrap replicates.
        seed: Of the draws; equal arguments give equal results.

    Returns:
        The interval; None for one problem, or where more than 1 in 20 replicates have no value, since
        then the others are no longer draws of the same kind. It has no width where all have the same.

    Raises:
        DataError: there is no problem, or a sum is not finite.
    """
    import numpy as np

    if not sums:
        raise DataError("no problem to draw; allowed: at least one")
    sums_PC = np.array([sums[problem] for problem in sorted(sums)], np.float64)
    if not np.isfinite(sums_PC).all():
        raise DataError("a sum is not finite; allowed: finite numbers")
    if len(sums) == 1:
        return None
    draws = np.random.default_rng(seed)
    values_R = np.concatenate(
        [
            statistic(_drawn_shares(len(sums), rows, draws) @ sums_PC)
            for rows in _batches(replicates)
        ]
    )
    found_R = values_R[~np.isnan(values_R)]
    if len(found_R) < (1 - ALPHA) * replicates:
        return None
    return _percentiles(found_R)


def paired_difference(
    first: Sequence[ByProblem],
    second: Sequence[ByProblem],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Difference:
    """Compares two conditions on the same problems.

    Scores are averaged over the training seeds of each condition and subtracted problem by problem.
    The p-value is the share of sign patterns that move the mean at least as far from 0, the one
    seen included; all patterns are tried where at most 12 problems differ, else `replicates` are
    drawn. Problems that do not differ change nothing, so they need no sign.

    What `seeds` can and cannot say: K training seeds are K observations, however many problems
    there are. It draws the seeds of each condition apart and the problems together, and with few
    seeds it is too narrow: K seeds drawn from themselves show (K - 1) / K of the variance between
    seeds, and a percentile knows no t. Simulated for one condition of 400 problems, where it says
    95 %: if seeds spread as far as the standard error over problems, 2 seeds cover 93 %, 3 cover
    94 % and 5 cover 95 %; if three times as far, 78 %, 85 % and 91 %; with one seed, 85 % and 49 %.
    A condition with one seed is taken as fixed: right for an untrained model, wrong for a trained
    one.

    Args:
        first: One mapping of scores by problem for each training seed.
        second: The same for the other condition.
        replicates: Sign patterns drawn, and bootstrap replicates.
        seed: Of the draws; equal arguments give equal results.

    Raises:
        DataError: a condition has no seed or no problem, the problems differ, or a score is not
            finite.
    """
    import numpy as np

    problems = _common_problems([*first], [*second])
    first_KP, second_KP = _matrix(first, problems), _matrix(second, problems)
    difference_P = first_KP.mean(axis=0) - second_KP.mean(axis=0)
    metric = estimate(dict(zip(problems, difference_P.tolist(), strict=True)))
    draws = np.random.default_rng(seed)
    p_value = _sign_flip_p(difference_P, replicates, draws)
    if metric.standard_error is None or metric.low is None or metric.high is None:
        return Difference(metric.value, None, None, p_value, None, None, 1, None)
    several = len(first) > 1 or len(second) > 1
    n, error = len(problems), metric.standard_error
    return Difference(
        value=metric.value,
        standard_error=error,
        interval=Interval(metric.low, metric.high),
        p_value=p_value,
        bootstrap=_bootstrap(difference_P[None], None, replicates, draws),
        seeds=_bootstrap(first_KP, second_KP, replicates, draws) if several else None,
        problems=n,
        minimum_detectable=minimum_detectable_effect(error**2 * n, n) if error else None,
    )


def seed_interval(
    by_seed: Sequence[ByProblem], *, replicates: int = REPLICATES, seed: int = 0
) -> Interval | None:
    """Two-level bootstrap of one condition's mean: training seeds and problems with replacement.

    With one seed this is the bootstrap over problems. With few it is too narrow; see
    `paired_difference` for how much.

    Args:
        by_seed: One mapping of scores by problem for each training seed.
        replicates: Bootstrap replicates.
        seed: Of the draws.

    Returns:
        Percentiles; None for one problem.

    Raises:
        DataError: there is no seed or no problem, the problems differ, or a score is not finite.
    """
    import numpy as np

    problems = _common_problems([*by_seed])
    if len(problems) == 1:
        return None
    return _bootstrap(_matrix(by_seed, problems), None, replicates, np.random.default_rng(seed))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values, in the order given.

    Rejecting those at most alpha keeps the chance of any false rejection at most alpha, whatever
    the dependence between the tests. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.

    Raises:
        ValueError: a p-value lies outside [0, 1].
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if not 0 <= p_values[name] <= 1:
            raise ValueError(f"p-value of {name!r} is {p_values[name]}; allowed: 0 to 1")
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def difference_variance(*, between: float, first: float, second: float, samples: int) -> float:
    """Variance over problems of the observed paired difference: var_d + var_A / k + var_B / k.

    What more samples can lower are the last two terms; the first is left even with endless samples.

    Args:
        between: Variance over problems of the true difference.
        first: Variance of one sample of the first condition about its problem's true score, mean
            over problems; for an Avg@k it is n k e^2 with e = `these_problems_standard_error`.
        second: The same for the second condition.
        samples: k, samples for each problem and condition.

    Source: 2411.00640, on power.
    """
    return between + (first + second) / samples


def minimum_detectable_effect(
    variance: float, problems: int, *, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The true difference that a two-sided test at level alpha shows with this power.

    delta = (z_{1-alpha/2} + z_power) sqrt(variance / n). Source: 2411.00640, on power.

    Args:
        variance: Of one problem's observed difference: measured, or from `difference_variance`. A
            measured one holds the noise of its own samples already.
        problems: n.
        power: Chance to show a difference of this size.
        alpha: Chance to show one where there is none.
    """
    return _z_sum(power, alpha) * math.sqrt(variance / problems)


def problems_needed(
    variance: float, effect: float, *, power: float = POWER, alpha: float = ALPHA
) -> int:
    """The problems that show a true difference of this size; see `minimum_detectable_effect`.

    n = (z_{1-alpha/2} + z_power)^2 variance / effect^2, rounded up, at least the 2 that a standard
    error takes.

    Raises:
        ValueError: the effect is 0, which no number of problems shows.
    """
    if effect == 0:
        raise ValueError("no number of problems shows an effect of 0")
    return max(2, math.ceil(_z_sum(power, alpha) ** 2 * variance / effect**2))


def _z_sum(power: float, alpha: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)


def _require_subset(problem: str, m: int, k: int) -> None:
    if not 1 <= m <= k:
        raise DataError(
            f"problem {problem!r} has {k} samples, found m = {m}; allowed: 1 to that number"
        )


def _require_finite(scores: ByProblem) -> None:
    for problem, score in scores.items():
        if not math.isfinite(score):
            raise DataError(f"the score of problem {problem!r} is {score}; allowed: finite numbers")


def _subset_credit(right: int, wrong: Sequence[int], silent: int, m: int) -> Fraction:
    """Credit summed over all subsets of m samples, from the sizes of the classes."""
    total = Fraction(0)
    for top in range(1, min(right, m) + 1):
        for tied, ways in _rivals(wrong, silent, m - top, top).items():
            total += Fraction(math.comb(right, top) * ways, 1 + tied)
    return total


def _rivals(wrong: Sequence[int], silent: int, size: int, top: int) -> Counter[int]:
    """Ways to draw `size` samples from the rest, no class above `top`, by how many reach it."""
    states = Counter({(0, 0): 1})
    behind = sum(wrong) + silent
    for votes_cast in wrong:
        behind -= votes_cast
        grown: Counter[tuple[int, int]] = Counter()
        for (drawn, tied), ways in states.items():
            # Fewer than this, and what is still to come could not fill the subset.
            least = max(0, size - drawn - behind)
            for votes in range(least, min(votes_cast, top, size - drawn) + 1):
                grown[drawn + votes, tied + (votes == top)] += ways * math.comb(votes_cast, votes)
        states = grown
    by_tied: Counter[int] = Counter()
    for (drawn, tied), ways in states.items():
        by_tied[tied] += ways * math.comb(silent, size - drawn)
    return by_tied


def _error_within_problems(
    values: ByProblem, outcomes: Mapping[str, Sequence[bool]]
) -> float | None:
    shares = avg_by_problem(outcomes)
    if shares.keys() != values.keys() or any(
        not math.isclose(share, values[problem], abs_tol=1e-9) for problem, share in shares.items()
    ):
        raise ValueError("outcomes must be the samples whose means are the values")
    if any(len(samples) == 1 for samples in outcomes.values()):
        return None
    variances = (s * (1 - s) / (len(outcomes[problem]) - 1) for problem, s in shares.items())
    return math.sqrt(math.fsum(variances)) / len(shares)


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _common_problems(*conditions: Sequence[ByProblem]) -> list[str]:
    """Ids in sorted order, so that results do not depend on the order of the mappings."""
    if not all(conditions) or not conditions[0][0]:
        raise DataError("nothing to compare; allowed: at least one training seed and one problem")
    expected = conditions[0][0].keys()
    for scores in (scores for condition in conditions for scores in condition):
        _require_finite(scores)
        odd = scores.keys() ^ expected
        if odd:
            raise DataError(
                f"scores are not on the same problems: {len(odd)} are in one mapping and not in "
                f"another, for example {min(odd)!r}",
                hint="evaluate all conditions and seeds with the same task, split and limit",
            )
    return sorted(expected)


def _matrix(by_seed: Sequence[ByProblem], problems: Sequence[str]) -> NDArray[np.float64]:
    """Scores, [K, P]."""
    import numpy as np

    return np.array([[scores[problem] for problem in problems] for scores in by_seed], np.float64)


def _sign_flip_p(
    difference_P: NDArray[np.float64], replicates: int, draws: np.random.Generator
) -> float:
    import numpy as np

    moving_P = difference_P[difference_P != 0]
    n = len(moving_P)
    total = moving_P.sum()
    # Scores are multiples of 1 / k: equal sums are common, and rounding must not part them.
    extreme = abs(total) - 1e-9 * np.abs(moving_P).sum()
    if n <= EXACT_SIGN_FLIPS:
        flips_RP = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((np.abs(total - 2 * (flips_RP @ moving_P)) >= extreme).mean())
    found = 0
    for rows in _batches(replicates):
        flips_RP = draws.integers(0, 2, (rows, n), dtype=np.int8)
        found += int((np.abs(total - 2 * (flips_RP @ moving_P)) >= extreme).sum())
    return (found + 1) / (replicates + 1)


def _bootstrap(
    first_KP: NDArray[np.float64],
    second_KP: NDArray[np.float64] | None,
    replicates: int,
    draws: np.random.Generator,
) -> Interval:
    """Percentiles of the first mean, less the second: seeds drawn apart, problems together."""
    import numpy as np

    batches = []
    for rows in _batches(replicates):
        weights_RP = _drawn_shares(first_KP.shape[1], rows, draws)
        means_R = _means_over_drawn_seeds(first_KP, weights_RP, draws)
        if second_KP is not None:
            means_R = means_R - _means_over_drawn_seeds(second_KP, weights_RP, draws)
        batches.append(means_R)
    return _percentiles(np.concatenate(batches))


def _percentiles(values_R: NDArray[np.float64]) -> Interval:
    import numpy as np

    low, high = np.quantile(values_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _means_over_drawn_seeds(
    scores_KP: NDArray[np.float64], weights_RP: NDArray[np.float64], draws: np.random.Generator
) -> NDArray[np.float64]:
    weights_RK = _drawn_shares(len(scores_KP), len(weights_RP), draws)
    means_R: NDArray[np.float64] = ((weights_RP @ scores_KP.T) * weights_RK).sum(axis=1)
    return means_R


def _drawn_shares(n: int, rows: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """How often each of n is among n draws with replacement, as a share, [R, n]."""
    import numpy as np

    drawn_RN = draws.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn_RN.ravel(), minlength=rows * n).reshape(rows, n) / n


def _batches(replicates: int) -> Iterator[int]:
    """Numbers of rows that keep the working set in the cache."""
    for start in range(0, replicates, _BATCH):
        yield min(_BATCH, replicates - start)
