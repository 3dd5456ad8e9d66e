"""The solver's attempts at the problems of one update: drawn, decoded, graded, grouped."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sdbench import prompts
from sdbench.conditions.base import Group
from sdbench.engines.base import Engine, Request, Sampling, generate
from sdbench.grading import Answer, Grader
from sdbench.records import Attempt, Completion, Problem, Rollout


@dataclass(frozen=True, slots=True)
class Asking:
    """How the solver is asked, the same in every update.

    Attributes:
        style: Of the prompts.
        thinking: Whether it may think first; None leaves it to the chat template.
        group_size: Rollouts a problem.
        sampling: How they are drawn.
    """

    style: prompts.Style
    thinking: bool | None
    group_size: int
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Turn:
    """A problem and how often it has been drawn before in this run."""

    problem: Problem
    epoch: int


def problems_of(problems: Sequence[Problem], update: int, per_update: int, seed: int) -> list[Turn]:
    """The problems of one update, in the order that this seed gives the training set.

    The order is one permutation an epoch, a function of the seed alone: every condition meets the
    same problems in the same order, however many it takes an update.

    Args:
        problems: The training set.
        update: From 1.
        per_update: Problems an update.
        seed: The run's seed.
    """
    start = (update - 1) * per_update
    turns = []
    orders: dict[int, list[int]] = {}
    for position in range(start, start + per_update):
        epoch, place = divmod(position, len(problems))
        if epoch not in orders:
            orders[epoch] = list(range(len(problems)))
            random.Random(f"order-{seed}-{epoch}").shuffle(orders[epoch])
        turns.append(Turn(problems[orders[epoch][place]], epoch))
    return turns


def draw(
    engine: Engine,
    grader: Grader,
    turns: Sequence[Turn],
    update: int,
    asking: Asking,
) -> list[Group]:
    """Draws and grades a group of attempts at each problem.

    Samples are numbered over all epochs, so no two draws of a run share their random numbers.

    Returns:
        One group for each turn, in their order.
    """
    tokenizer = engine.model.tokenizer
    requests = [
        Request(
            id=f"{turn.epoch}:{turn.problem.id}",
            prompt_ids=prompts.solver(
                tokenizer, asking.style, turn.problem.prompt, asking.thinking
            ),
            indices=tuple(range(asking.group_size)),
        )
        for turn in turns
    ]
    by_id = {request.id: request for request in requests}
    rollouts: dict[str, list[Rollout]] = {request.id: [] for request in requests}
    turn_of = {request.id: turn for request, turn in zip(requests, turns, strict=True)}
    for completion in generate(engine, requests, asking.sampling):
        rollouts[completion.request_id].append(
            _rollout(
                completion,
                by_id[completion.request_id],
                turn_of[completion.request_id],
                update,
                asking.group_size,
            )
        )
    gold = {turn.problem.id: turn.problem.answer for turn in turns}
    verdicts = {
        verdict.id: verdict
        for verdict in grader.grade(
            [
                Answer(rollout.id, rollout.text, gold[rollout.problem_id], rollout.finish_reason)
                for group in rollouts.values()
                for rollout in group
            ]
        )
    }
    return [
        Group(
            turn.problem,
            tuple(Attempt(turn.problem, r, verdicts[r.id]) for r in rollouts[request.id]),
        )
        for request, turn in zip(requests, turns, strict=True)
    ]


def _rollout(
    completion: Completion, request: Request, turn: Turn, update: int, group_size: int
) -> Rollout:
    return Rollout(
        id=f"{request.id}#{completion.index}",
        problem_id=turn.problem.id,
        update=update,
        index=turn.epoch * group_size + completion.index,
        prompt_ids=request.prompt_ids,
        completion_ids=completion.token_ids,
        sampling_logprobs=completion.logprobs,
        text=completion.text,
        finish_reason=completion.finish_reason,
    )
