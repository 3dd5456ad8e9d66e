"""Another problem, or another rollout of the same one, to take a context from.

Who gets whose is settled by ids alone, never by order: the same update gives the same pairs. Where
several processes share an update, each pairs what it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sdbench.conditions.base import Group
from sdbench.critics.base import said
from sdbench.records import Attempt


def other_groups(groups: Sequence[Group]) -> Mapping[str, Group]:
    """For each problem's id another problem's group; none if the update has but one problem.

    The problems stand in a ring, in the order of a hash of their ids, and each gets the next one.
    """
    by_id = {group.problem.id: group for group in groups}
    ring = sorted(by_id, key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    following = zip(ring, [*ring[1:], *ring[:1]], strict=True)
    return {id: by_id[other] for id, other in following if other != id}


def sibling(group: Group, attempt: Attempt, *, correct: bool) -> Attempt | None:
    """The next rollout of the same group with a right or a wrong answer that says something else.

    None if there is none. A copy of the rollout would only make the teacher surer of it.
    """
    place, own = group.attempts.index(attempt), said(attempt.rollout.text)
    after = (*group.attempts[place + 1 :], *group.attempts[:place])
    fit = (one for one in after if one.verdict.correct == correct)
    return next((one for one in fit if said(one.rollout.text) != own), None)
