"""What each token weighs in the loss, by hand, and that cutting an update changes nothing."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.config import Normalisation
from sdbench.train.normalise import Totals, token_weights, totals

LENGTHS = [2, 0, 6]
EVERY: tuple[Normalisation, ...] = get_args(Normalisation)
each = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("token", [1 / 8, 0, 1 / 8]),  # 2 + 6 tokens
        ("sequence", [1 / 4, 0, 1 / 12]),  # 2 rollouts, each the mean of its own 2 or 6 tokens
        ("constant", [1 / 20, 0, 1 / 20]),  # 2 rollouts of at most 10 tokens
    ],
)
def test_weights_by_hand(normalisation: Normalisation, expected: list[float]) -> None:
    """Rollouts of 2, 0 and 6 tokens; that without tokens counts for nothing."""
    assert token_weights(LENGTHS, normalisation, 10) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [("token", [1 / 20, 0, 1 / 20]), ("sequence", [1 / 10, 0, 1 / 30]), ("constant", [1 / 50] * 2)],
)
def test_a_part_is_weighted_by_the_whole(
    normalisation: Normalisation, expected: list[float]
) -> None:
    """The update has 5 rollouts and 20 tokens, most of them in other processes."""
    found = token_weights(LENGTHS, normalisation, 10, Totals(20, 5))
    assert [w for w in found if w] == pytest.approx([w for w in expected if w])


def test_totals_count_rollouts_that_have_tokens() -> None:
    assert totals(LENGTHS) == Totals(8, 2)
    assert totals([]) == Totals(0, 0)


@pytest.mark.parametrize("normalisation", EVERY)
def test_nothing_weighs_nothing(normalisation: Normalisation) -> None:
    assert token_weights([], normalisation, 10) == []
    assert token_weights([0, 0], normalisation, 10) == [0, 0]


@given(each, st.sampled_from(("token", "sequence")))
def test_means_have_weights_that_sum_to_one(
    lengths: list[int], normalisation: Normalisation
) -> None:
    weights = token_weights(lengths, normalisation, 30)
    total = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
    assert total == pytest.approx(1)


@given(each, st.data(), st.sampled_from(EVERY))
def test_cut_anywhere_the_weights_are_the_same(
    lengths: list[int], data: st.DataObject, normalisation: Normalisation
) -> None:
    cut = data.draw(st.integers(0, len(lengths)))
    parts = lengths[:cut], lengths[cut:]
    tallies = [totals(part) for part in parts]
    whole = Totals(sum(t.tokens for t in tallies), sum(t.rollouts for t in tallies))
    assert whole == totals(lengths)
    found = [w for part in parts for w in token_weights(part, normalisation, 30, whole)]
    assert found == token_weights(lengths, normalisation, 30)
