"""Rollouts drawn ahead: those of the next update, by the weights before this one.

Drawing them takes its time while this update trains; they are then one update old, which the
importance ratio in every condition's loss corrects. They go into a checkpoint as rows, so that a run
that continues trains on the very same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import cast

from sdbench.conditions.base import Group
from sdbench.records import Attempt, FinishReason, Problem, Rollout, Verdict, VerdictStatus
from sdbench.rundir import Row

Draw = Callable[[int], list[Group]]


class Source:
    """Gives each update its rollouts, drawn when asked for, or ahead; holds them until trained on."""

    def __init__(
        self, draw: Draw, *, ahead: bool, first: int, held: Sequence[Group] | None = None
    ) -> None:
        """Prepares.

        Args:
            draw: Draws the rollouts of an update.
            ahead: Whether to draw the next update's while one trains.
            first: The update that will be asked for first.
            held: Rollouts that a checkpoint kept for it.
        """
        self._draw = draw
        self._drawn: dict[int, list[Group]] = {} if held is None else {first: list(held)}
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._under_way: dict[int, Future[list[Group]]] = {}

    def take(self, update: int, last: int) -> list[Group]:
        """The rollouts of an update; those of the next begin to be drawn, if there is one."""
        self._wait_for(update)
        if update not in self._drawn:
            self._drawn[update] = self._draw(update)
        if self._pool is not None and update < last:
            self._under_way[update + 1] = self._pool.submit(self._draw, update + 1)
        return self._drawn[update]

    def settle(self, update: int) -> None:
        """Forgets what has been trained on and waits for what is under way: weights may change."""
        self._drawn.pop(update, None)
        self._wait_for(update + 1)

    def held(self, update: int) -> list[Group] | None:
        """The rollouts for the update after this one; None if they have not been drawn."""
        return self._drawn.get(update + 1)

    def close(self) -> None:
        """Ends the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _wait_for(self, update: int) -> None:
        if update in self._under_way:
            self._drawn[update] = self._under_way.pop(update).result()


def as_rows(groups: Sequence[Group]) -> list[Row]:
    """Groups as JSON; problems by id."""
    return [
        {
            "problem_id": group.problem.id,
            "attempts": [
                cast(Row, {"rollout": asdict(a.rollout), "verdict": asdict(a.verdict)})
                for a in group.attempts
            ],
        }
        for group in groups
    ]


def from_rows(rows: Sequence[Row], problems: Mapping[str, Problem]) -> list[Group]:
    """Reads `as_rows` back."""
    return [_group(row, problems[str(row["problem_id"])]) for row in rows]


def _group(row: Row, problem: Problem) -> Group:
    attempts = cast("list[dict[str, Row]]", row["attempts"])
    return Group(
        problem,
        tuple(Attempt(problem, _rollout(a["rollout"]), _verdict(a["verdict"])) for a in attempts),
    )


def _rollout(row: Row) -> Rollout:
    values = dict(row)
    for name in ("prompt_ids", "completion_ids", "sampling_logprobs"):
        values[name] = tuple(cast("list[float]", values[name]))  # type: ignore[assignment]
    return Rollout(**{**values, "finish_reason": FinishReason(str(row["finish_reason"]))})  # type: ignore[arg-type]


def _verdict(row: Row) -> Verdict:
    return Verdict(**{**row, "status": VerdictStatus(str(row["status"]))})  # type: ignore[arg-type]
