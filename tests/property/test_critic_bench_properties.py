"""Invariants of the critic benchmark: steps lose nothing, choices are fair, scores know no order."""

from __future__ import annotations

from collections import Counter

import pytest
from critic_bench_fixture import UNREADABLE, Says, critique, marked
from hypothesis import given
from hypothesis import strategies as st

from sdbench.critic_bench import marked as data
from sdbench.critic_bench import score
from sdbench.critic_bench.schema import Figure, Scores
from sdbench.sources.champ_marks import passages

TEXTS = st.text(alphabet="ab:,.=\\[ \n\t", max_size=60)
SAYS: st.SearchStrategy[Says] = st.sampled_from([None, 1, 2, 3, UNREADABLE])
TRUTHS = st.sampled_from([None, 1, 2, 3, 4])
CASES = st.lists(st.tuples(st.sampled_from("pqr"), TRUTHS, SAYS), min_size=1, max_size=12)


def scored(cases: list[tuple[str, int | None, Says]], order: list[int]) -> Scores:
    made = [
        score.judge(marked(f"{problem}/{n}", truth), critique(f"{problem}/{n}", says), 1.0)
        for n, (problem, truth, says) in enumerate(cases)
    ]
    return score.scores([made[n] for n in order])


def value(found: Figure | None) -> float | None:
    return None if found is None else found["value"]


@given(TEXTS)
def test_steps_are_in_order_and_lose_nothing_but_blanks(text: str) -> None:
    found = passages(text)
    ends = [end for one in found for end in (one.start, one.end)]
    assert ends == sorted(ends)
    kept = "".join(text[one.start : one.end] for one in found)
    assert "".join(kept.split()) == "".join(text.split())
    for one in found:
        words = text[one.start : one.end]
        assert words and words == words.strip()


@given(CASES, st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_order(
    cases: list[tuple[str, int | None, Says]], random: object
) -> None:
    order = list(range(len(cases)))
    shuffled = order[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = scored(cases, order), scored(cases, shuffled)
    for name in ("f1", "located", "near", "cleared", "exact", "detection_f1"):
        one, other = first[name], second[name]
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one == pytest.approx(other)


@given(CASES)
def test_scores_bound_each_other(cases: list[tuple[str, int | None, Says]]) -> None:
    """F1 lies between its two parts, nearly right is at least as frequent as right, all are shares."""
    found = scored(cases, list(range(len(cases))))
    located, near, cleared = (value(found[name]) for name in ("located", "near", "cleared"))
    f1, recall = value(found["f1"]), value(found["detection_recall"])
    if located is not None and near is not None and recall is not None:
        assert 0 <= located <= near <= 1 and located <= recall <= 1
    assert (f1 is None) == (located is None or cleared is None)
    if f1 is not None and located is not None and cleared is not None:
        assert min(located, cleared) - 1e-12 <= f1 <= max(located, cleared) + 1e-12


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=40), st.data())
def test_a_choice_takes_the_same_share_of_each_author(
    authors: list[str], draw: st.DataObject
) -> None:
    """Half a trace off for rounding, and its part of the others' rounding; a larger choice keeps all."""
    every = [marked(f"{n}/x", None, author=author) for n, author in enumerate(authors)]
    limit = draw.draw(st.integers(1, len(every)))
    taken = data.chosen(every, limit)
    assert len(taken) == limit
    sizes = Counter(authors)
    counts = Counter(trace.author for trace in taken)
    for author, size in sizes.items():
        share = size / len(every)
        assert abs(counts[author] - limit * share) <= (1 + len(sizes) * share) / 2 + 1e-9
    if limit < len(every):
        more = {trace.id for trace in data.chosen(every, limit + 1)}
        assert {trace.id for trace in taken} <= more
