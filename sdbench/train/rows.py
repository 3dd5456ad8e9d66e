"""What an update leaves in the run folder: one row for each rollout and each feedback."""

from __future__ import annotations

from collections.abc import Sequence

from sdbench.conditions.base import Group
from sdbench.records import Feedback
from sdbench.rundir import Row, to_row


def rollout_rows(groups: Sequence[Group]) -> list[Row]:
    """Rows of `rollouts.jsonl`."""
    return [
        {
            "id": a.rollout.id,
            "update": a.rollout.update,
            "problem_id": a.problem.id,
            "text": a.rollout.text,
            "tokens": len(a.rollout.completion_ids),
            "finish_reason": a.rollout.finish_reason.value,
            "status": a.verdict.status.value,
            "answer": a.verdict.answer,
        }
        for group in groups
        for a in group.attempts
    ]


def feedback_rows(update: int, feedback: Sequence[Feedback]) -> list[Row]:
    """Rows of `feedback.jsonl`."""
    return [
        {
            "rollout_id": one.rollout_id,
            "update": update,
            "advantage": one.advantage,
            "context": one.context,
            "critique": None if one.critique is None else to_row(one.critique),
            "dropped": one.dropped,
        }
        for one in feedback
    ]
