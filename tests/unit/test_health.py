"""Repetition by hand, and warnings: one for each metric that runs away, none for a steady run."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import pytest

from sdbench.arithmetic.expression import Expression, sample
from sdbench.conditions.base import Group
from sdbench.records import Attempt, FinishReason
from sdbench.rundir import Row
from sdbench.train.health import LIMITS, Watch, repetition, rollout_metrics

MakeAttempt = Callable[[Expression, str, int], Attempt]


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([], 0),
        ([1, 2, 3], 0),  # no run of four
        ([1, 2, 3, 4], 0),
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),  # 5 runs, of which the last is the first again
        ([7] * 10, 6 / 7),  # 7 runs, one of them new
        ([1, 2, 1, 2, 1, 2, 1], 2 / 4),  # 1212, 2121, then both again
        (list(range(50)), 0),
    ],
)
def test_repetition_by_hand(ids: list[int], share: float) -> None:
    assert repetition(ids) == pytest.approx(share)


def test_rollout_metrics_by_hand(attempt_at: MakeAttempt) -> None:
    """Two problems, two attempts each: one right of four, one cut, one flat group of two.

    The organism writes one token a character and tag and one to end: `<answer>1</answer>` has 4, and
    `1111111` has 8 with 5 runs of four, of which 1111 stands four times, so 3 of 5 are repeats.
    """
    rng = random.Random(1)
    one, other = sample(rng), sample(rng)
    right = f"<answer>{one.value}</answer>"
    cut = attempt_at(other, "1" * 7, 1)
    rollout = dataclasses.replace(cut.rollout, finish_reason=FinishReason.LENGTH)
    groups = [
        _group(attempt_at(one, right, 0), attempt_at(one, "<answer>x</answer>", 1)),
        _group(attempt_at(other, "", 0), dataclasses.replace(cut, rollout=rollout)),
    ]
    assert rollout_metrics(groups) == pytest.approx(
        {
            "rollout/reward": 1 / 4,
            "rollout/length": (4 + 4 + 1 + 8) / 4,
            "rollout/truncated": 1 / 4,
            "rollout/repetition": 3 / 5 / 4,
            "rollout/flat_groups": 1 / 2,
        }
    )


def _group(*attempts: Attempt) -> Group:
    return Group(attempts[0].problem, attempts)


def row(length: float = 40.0, truncated: float = 0.0, repeated: float = 0.05) -> Row:
    return {
        "rollout/length": length,
        "rollout/truncated": truncated,
        "rollout/repetition": repeated,
    }


def warnings(rows: Sequence[Row], watch: Watch | None = None) -> list[list[str]]:
    watch = watch or Watch()
    return [watch.see(one) for one in rows]


def test_a_steady_run_has_no_warning() -> None:
    """Not even one that cuts half of its completions and repeats half of them from the start."""
    rng = random.Random(0)
    rows = [
        row(40 + rng.uniform(-8, 8), 0.5 + rng.uniform(-0.1, 0.1), 0.5 + rng.uniform(-0.1, 0.1))
        for _ in range(60)
    ]
    assert not any(warnings(rows))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (row(length=40), row(length=61), "mean completion length in tokens went from 40 to 61"),
        (row(truncated=0), row(truncated=0.31), "at the token cap went from 0 to 0.31"),
        (row(repeated=0.1), row(repeated=0.26), "repeated runs of tokens went from 0.1 to 0.26"),
    ],
)
def test_what_runs_away_is_warned_of_once(before: Row, after: Row, text: str) -> None:
    """The mean of three updates against that of the first three, so at the sixth update."""
    found = warnings([before] * 3 + [after] * 9)
    assert [len(one) for one in found] == [0] * 5 + [1] + [0] * 6
    assert text in found[5][0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (row(length=40), row(length=59)),  # less than 1.5 times
        (row(truncated=0.15), row(truncated=0.34)),  # risen by less than .2
        (row(truncated=0), row(truncated=0.29)),  # below .3
        (row(repeated=0.2), row(repeated=0.34)),  # risen by less than .15
        (row(repeated=0), row(repeated=0.24)),  # below .25
        (row(length=60), row(length=30)),  # the other way
    ],
)
def test_what_stays_within_its_limits_is_not(before: Row, after: Row) -> None:
    assert not any(warnings([before] * 3 + [after] * 9))


def test_one_odd_update_is_no_warning() -> None:
    assert not any(warnings([row()] * 6 + [row(length=80)] + [row()] * 6))


def test_each_metric_has_its_own_warning() -> None:
    gone = row(length=90, truncated=0.9, repeated=0.9)
    found = warnings([row()] * 3 + [gone] * 6)
    assert sum(map(len, found)) == len(LIMITS) == 3


def test_a_run_that_continues_does_not_warn_again() -> None:
    """It has seen the rows on disk, whether the warning stands in them or is still to come."""
    rows = [row()] * 3 + [row(length=70)] * 6
    for cut in range(len(rows) + 1):
        whole = warnings(rows)
        rest = warnings(rows[cut:], Watch(rows[:cut]))
        assert rest == whole[cut:], cut


def test_when_most_rollouts_are_dropped_it_is_said_once() -> None:
    """At the third update, by the mean of three; exactly half is not most."""
    half: Row = row() | {"feedback/critique": 0.3, "feedback/missing": 0.2}
    most: Row = row() | {"feedback/critique": 0.3, "feedback/missing": 0.4}
    assert not any(warnings([half] * 9))
    found = warnings([row(), most, most, most, most])
    assert [len(one) for one in found] == [0, 0, 0, 1, 0]
    assert found[3] == ["70% of the rollouts are dropped, most of them as 'missing'"]
