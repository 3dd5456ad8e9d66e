"""What a teacher's view promises: every completion token in its place, nothing encoded again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.models import student_view
from sdbench.records import TeacherView

IDS = st.lists(st.integers(0, 63), min_size=1, max_size=20).map(tuple)


@given(IDS, IDS)
def test_a_view_after_a_prompt_holds_its_completion(
    prompt_ids: tuple[int, ...], completion_ids: tuple[int, ...]
) -> None:
    view = student_view(prompt_ids, completion_ids)
    assert view.holds(completion_ids)
    assert view.input_ids == prompt_ids + completion_ids
    assert len(view.positions) == len(completion_ids)
    assert view.positions[0] == len(prompt_ids) >= 1
    assert not view.holds((*completion_ids, 0))
    assert not view.holds((*completion_ids[:-1], 64))


@given(IDS, st.lists(st.integers(-3, 25), max_size=8).map(tuple))
def test_a_view_is_made_exactly_if_its_positions_rise_within_its_ids(
    input_ids: tuple[int, ...], positions: tuple[int, ...]
) -> None:
    """Position 0 has no token before it that could predict it, so positions begin at 1."""
    rising = list(positions) == sorted(set(positions))
    within = bool(positions) and min(positions) >= 1 and max(positions) < len(input_ids)
    if rising and within:
        view = TeacherView(input_ids, positions)
        assert view.holds([input_ids[position] for position in positions])
    else:
        with pytest.raises(ValueError, match="positions of a TeacherView"):
            TeacherView(input_ids, positions)
