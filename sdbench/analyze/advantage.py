"""Why a condition wins: where, along a trace, its teacher disagrees with the student.

In: an arm and the suite. Out: per-token advantages A_t of the untrained policy's own rollouts on
validation problems, the same traces for every arm, by role of the step each token belongs to, as the
suite's critic finds it, whatever the arm's own critic says: correct, first wrong, or later than that;
and a localisation score. An arm that compares the rollouts of a group gets a group of its size at each
problem, of which the first is looked at.

The localisation score of a trace is the share of its negative advantage, sum of max(0, -A_t), that
falls on the first wrong step. `pooled` sums over traces first, `per_trace` averages the traces'
scores; `uniform` is what a teacher would get that is equally negative everywhere. Traces without a
written wrong step have no score.

Source: the per-token advantage of 2606.11173; the score is defined here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import cast

from sdbench import assembly, models, problems, prompts, stats, traces
from sdbench.conditions.base import Group, resolve
from sdbench.config import Suite
from sdbench.engines.base import Engine, Request, Sampling, generate
from sdbench.grading import Answer, Grader
from sdbench.records import Attempt, Critique, Feedback, Rollout
from sdbench.rundir import Row
from sdbench.traces import CORRECT, FIRST_WRONG, LATER, StepRole

ROLES = (CORRECT, FIRST_WRONG, LATER)
BATCH = 16


@dataclass(frozen=True, slots=True)
class MarkedTrace:
    """One rollout with its advantages.

    Attributes:
        attempt: The rollout, its problem and verdict.
        context: What the teacher read besides the problem.
        tokens: The completion's tokens as text.
        roles: Each token's role, [T].
        advantages: A_t, [T], nats.
    """

    attempt: Attempt
    context: str
    tokens: tuple[str, ...]
    roles: tuple[StepRole, ...]
    advantages: tuple[float, ...]

    def negative(self, role: StepRole | None = None) -> float:
        """Sum of max(0, -A_t) over the tokens of a role, or over all, in nats."""
        return sum(
            max(0.0, -advantage)
            for token_role, advantage in zip(self.roles, self.advantages, strict=True)
            if role is None or token_role == role
        )

    @property
    def localisation(self) -> float | None:
        """Share of negative advantage on the first wrong step; None without one, or without any."""
        if FIRST_WRONG not in self.roles or self.negative() == 0:
            return None
        return self.negative(FIRST_WRONG) / self.negative()


def analyse(suite: Suite, arm_name: str, grader: Grader, store: Path | None = None) -> Row | None:
    """Advantages of an arm on the common traces, as in `advantage.json`.

    Args:
        suite: The suite.
        arm_name: The arm.
        grader: Of the traces.
        store: Folder in which critiques that cost something are kept and found; None for nowhere.

    Returns:
        None if the condition has no teacher.

    Raises:
        CriticError: the suite's critic cannot judge this task.
    """
    arm = resolve(suite, arm_name)
    if not arm.config.teaches:
        return None
    engine = assembly.untrained_engine(suite)
    size = arm.config.group_size if arm.config.compares else 1
    groups = common_groups(suite, engine, grader, size)
    attempts = [group.attempts[0] for group in groups]
    surroundings = assembly.surroundings(suite, engine.model, arm, store=store)
    with closing(surroundings.critic):
        feedback = arm.build(surroundings).feedback(groups)
    given = [one.critique for one in feedback if one.critique is not None]
    if arm.config.critic is not None or not given:
        with closing(assembly.critic(suite, suite.critic, store=store)) as judge:
            given = list(judge.critique(attempts))
    marked = mark(engine, attempts, feedback, given)
    return summarise(marked, suite.analysis.examples, len(attempts))


def common_groups(suite: Suite, engine: Engine, grader: Grader, size: int = 1) -> list[Group]:
    """Rollouts of the untrained policy on each of the first validation problems, so many each.

    The first of each group is the same whatever the size.
    """
    problem_set = problems.of_suite(suite, "validation", suite.analysis.traces)
    turns = {p.id: prompts.solver_turn(suite.prompts, p.prompt) for p in problem_set}
    tokenizer, thinking = engine.model.tokenizer, suite.thinking.student
    requests = [
        Request(id, prompts.encode(tokenizer, turn, thinking), tuple(range(size)), turn)
        for id, turn in turns.items()
    ]
    sampling = Sampling(
        suite.sampling.temperature, suite.sampling.max_tokens, suite.evaluation.seed
    )
    prompt_ids = {request.id: request.prompt_ids for request in requests}
    rollouts: dict[str, list[Rollout]] = {request.id: [] for request in requests}
    for c in generate(engine, requests, sampling):
        rollouts[c.request_id].append(
            Rollout(
                id=f"{c.request_id}#{c.index}",
                problem_id=c.request_id,
                update=0,
                index=c.index,
                prompt_ids=prompt_ids[c.request_id],
                completion_ids=c.token_ids,
                sampling_logprobs=c.logprobs,
                text=c.text,
                finish_reason=c.finish_reason,
            )
        )
    answers = [
        Answer(one.id, one.text, p.answer, one.finish_reason)
        for p in problem_set
        for one in rollouts[p.id]
    ]
    verdicts = {verdict.id: verdict for verdict in grader.grade(answers)}
    return [
        Group(p, tuple(Attempt(p, one, verdicts[one.id]) for one in _in_order(rollouts[p.id])))
        for p in problem_set
    ]


def _in_order(rollouts: Sequence[Rollout]) -> list[Rollout]:
    return sorted(rollouts, key=lambda rollout: rollout.index)


def mark(
    engine: Engine,
    attempts: Sequence[Attempt],
    feedback: Sequence[Feedback],
    critiques: Iterable[Critique],
) -> list[MarkedTrace]:
    """Advantages and roles of every attempt that has a teacher's view and a critique.

    Args:
        engine: Holds the model that is student and teacher.
        attempts: The traces.
        feedback: Of one condition.
        critiques: Of the suite's critic, which say where each trace goes wrong.
    """
    views = {one.rollout_id: one for one in feedback if one.view is not None}
    judged = {one.rollout_id: one for one in critiques if one.usable}
    told = [a for a in attempts if a.rollout.id in views.keys() & judged.keys()]
    marked = []
    for start in range(0, len(told), BATCH):
        batch = told[start : start + BATCH]
        feedbacks = [views[attempt.rollout.id] for attempt in batch]
        for attempt, one, values in zip(
            batch, feedbacks, _advantages(engine, batch, feedbacks), strict=True
        ):
            ends = traces.token_ends(attempt.rollout.completion_ids, engine.model.decode)
            marked.append(
                MarkedTrace(
                    attempt=attempt,
                    context=one.context or "",
                    tokens=_token_texts(engine, attempt.rollout, ends),
                    roles=traces.step_roles(
                        attempt.rollout.text,
                        ends,
                        judged[attempt.rollout.id].first_wrong_step,
                        written=judged[attempt.rollout.id].error_written,
                    ),
                    advantages=tuple(values),
                )
            )
    return marked


def _token_texts(engine: Engine, rollout: Rollout, ends: Sequence[int]) -> tuple[str, ...]:
    """Each token's part of the text; a special token, which has none, goes by its name."""
    names = engine.model.tokenizer.convert_ids_to_tokens(list(rollout.completion_ids))
    starts = [0, *ends[:-1]]
    return tuple(
        rollout.text[start:end] or name
        for start, end, name in zip(starts, ends, names, strict=True)
    )


def summarise(marked: Sequence[MarkedTrace], examples: int, asked: int | None = None) -> Row:
    """Means by role, localisation scores and examples.

    Args:
        marked: The traces.
        examples: How many of them are shown.
        asked: How many traces there were, with those on which the condition has no feedback.
    """
    scored = {t.attempt.problem.id: t for t in marked if t.localisation is not None}
    per_trace = {name: cast(float, trace.localisation) for name, trace in scored.items()}
    total = sum(trace.negative() for trace in scored.values())
    return {
        "traces_asked": len(marked) if asked is None else asked,
        "traces": len(marked),
        "traces_with_wrong_step": len(scored),
        "policy": "untrained",
        "localisation": {
            "pooled": sum(t.negative(FIRST_WRONG) for t in scored.values()) / total
            if total
            else None,
            "per_trace": asdict(stats.estimate(per_trace, share=True)) if per_trace else None,
            "uniform": fmean(t.roles.count(FIRST_WRONG) / len(t.roles) for t in scored.values())
            if scored
            else None,
        },
        "mean_advantage": {role: _mean_by_role(marked, role) for role in ROLES},
        "examples": [_example(trace) for trace in _illustrative(marked)[:examples]],
    }


def _mean_by_role(marked: Sequence[MarkedTrace], role: StepRole) -> Row | None:
    """Mean over traces of the mean A_t of the role's tokens, clustered by problem."""
    means = {
        trace.attempt.problem.id: fmean(
            a for r, a in zip(trace.roles, trace.advantages, strict=True) if r == role
        )
        for trace in marked
        if role in trace.roles
    }
    return asdict(stats.estimate(means)) if means else None


def _illustrative(marked: Sequence[MarkedTrace]) -> list[MarkedTrace]:
    """Traces with correct steps before the first wrong one come first, in order of the data."""
    return sorted(marked, key=lambda trace: not {CORRECT, FIRST_WRONG} <= set(trace.roles))


def _example(trace: MarkedTrace) -> Row:
    attempt = trace.attempt
    return {
        "problem_id": attempt.problem.id,
        "prompt": attempt.problem.prompt,
        "answer": attempt.problem.answer,
        "correct": attempt.verdict.correct,
        "context": trace.context,
        "tokens": [
            {"text": text, "advantage": round(advantage, 4), "role": role}
            for text, advantage, role in zip(
                trace.tokens, trace.advantages, trace.roles, strict=True
            )
        ],
    }


def _advantages(
    engine: Engine, batch: Sequence[Attempt], feedback: Sequence[Feedback]
) -> list[list[float]]:
    network = engine.model.network
    taught = [one.view for one in feedback if one.view is not None]
    against = [
        one.against or models.student_view(a.rollout.prompt_ids, a.rollout.completion_ids)
        for a, one in zip(batch, feedback, strict=True)
    ]
    ids = [attempt.rollout.completion_ids for attempt in batch]
    return [
        (teacher - other).tolist()
        for teacher, other in zip(
            models.completion_logprobs(network, taught, ids),
            models.completion_logprobs(network, against, ids),
            strict=True,
        )
    ]
