"""Feedback and rollouts joined to what one update trains on, cut into micro-batches.

In: the attempts and the feedback of an update. Out: `Item`s and micro-batches of them. From here on
nobody can tell which condition it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from sdbench.conditions.base import Group
from sdbench.models import student_view
from sdbench.records import Feedback, TeacherView

IDLE = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One rollout to train on, or a demonstration in its place.

    Attributes:
        id: The rollout's.
        student: What the policy reads.
        completion_ids: The tokens that are trained on, [T].
        sampling_logprobs: Of these tokens when drawn, [T], nats; None for a demonstration.
        advantage: Of the whole rollout, None if the condition gives none.
        teacher: What the teacher reads, None if there is no teacher.
        against: What it reads of the hint that it is contrasted with, None without a contrast.
        roles: What step each token belongs to, [T], where the feedback knows it; see `roles.py`.
    """

    id: str
    student: TeacherView
    completion_ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...] | None
    advantage: float | None
    teacher: TeacherView | None = None
    against: TeacherView | None = None
    roles: tuple[str, ...] | None = None

    @property
    def teaches(self) -> bool:
        """False if the gradient is exactly zero: advantage 0 and no teacher."""
        return self.teacher is not None or self.advantage != 0

    def trained_tokens(self, skip: int) -> int:
        """Tokens that count when the first `skip` do not."""
        return max(0, len(self.completion_ids) - skip)


def items(
    groups: Sequence[Group],
    feedback: Sequence[Feedback],
    roles: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Item]:
    """Joins feedback to rollouts by id; rollouts without usable feedback are left out.

    Raises:
        ValueError: feedback for an unknown rollout, or a view that does not hold its completion.
    """
    rollouts = {a.rollout.id: a.rollout for group in groups for a in group.attempts}
    joined = []
    for one in feedback:
        rollout = rollouts[one.rollout_id]
        if one.advantage is None and one.view is None:
            continue
        demonstrated = one.demonstration is not None
        ids = rollout.completion_ids if one.demonstration is None else one.demonstration
        for view in (one.view, one.against):
            if view is not None and not view.holds(ids):
                raise ValueError(f"the teacher's view of {rollout.id} does not hold its completion")
        joined.append(
            Item(
                id=rollout.id,
                student=student_view(rollout.prompt_ids, ids),
                completion_ids=ids,
                sampling_logprobs=None if demonstrated else rollout.sampling_logprobs,
                advantage=one.advantage,
                teacher=one.view,
                against=one.against,
                roles=None if demonstrated else (roles or {}).get(rollout.id),
            )
        )
    return joined


def idle(*, teaches: bool, contrasts: bool = False) -> Item:
    """A token that weighs nothing, for a process that has run out of rollouts before the others."""
    view = TeacherView((0, 0), (1,))
    return Item(
        IDLE, view, (0,), (0.0,), 0.0, view if teaches else None, view if contrasts else None
    )


def micro_batches(batch: Iterable[Item], rollouts: int) -> Iterator[list[Item]]:
    """At most `rollouts` items at a time, of like length so that padding is rare."""
    ordered = sorted(batch, key=lambda item: len(item.student.input_ids))
    for start in range(0, len(ordered), rollouts):
        yield ordered[start : start + rollouts]


def packed_ids(batch: Sequence[Item]) -> torch.Tensor:
    """Completion tokens one rollout after the other, [N]."""
    return torch.tensor([token for item in batch for token in item.completion_ids])


def packed_sampling_logprobs(batch: Sequence[Item]) -> torch.Tensor | None:
    """Sampling log-probabilities of the same tokens, [N], nats; None if any were not drawn."""
    drawn = [item.sampling_logprobs for item in batch if item.sampling_logprobs is not None]
    if len(drawn) < len(batch):
        return None
    return torch.tensor([value for values in drawn for value in values])


def packed_weights(batch: Sequence[Item], weights: Mapping[str, float], skip: int) -> torch.Tensor:
    """What each token weighs in the loss, [N]: its rollout's weight, 0 for the first `skip`."""
    return torch.tensor(
        [
            weights[item.id] if place >= skip else 0.0
            for item in batch
            for place in range(len(item.completion_ids))
        ],
        dtype=torch.float64,
    )


def packed_advantages(batch: Sequence[Item]) -> torch.Tensor | None:
    """The rollout's advantage at each of its tokens, [N]; None if any rollout has none."""
    if any(item.advantage is None for item in batch):
        return None
    return torch.tensor([item.advantage for item in batch for _ in item.completion_ids])


def teacher_views(batch: Sequence[Item]) -> list[TeacherView] | None:
    """What the teacher reads for each rollout; None if any has no teacher."""
    return _of_all([item.teacher for item in batch])


def views_against(batch: Sequence[Item]) -> list[TeacherView] | None:
    """What it is contrasted with for each rollout; None if any has no contrast."""
    return _of_all([item.against for item in batch])


def _of_all(views: Sequence[TeacherView | None]) -> list[TeacherView] | None:
    found = [view for view in views if view is not None]
    return found if len(found) == len(views) else None
