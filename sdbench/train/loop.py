"""One training run, read from top to bottom: draw, grade, give feedback, update, log, save.

In: a suite, an arm, a seed and a folder. Out: that folder, with a checkpoint every `save_every`
updates. Called again after a kill, it continues after the last complete checkpoint; rows that
belong to later updates are dropped and written anew. On CPU the weights then equal those of an
undisturbed run bit for bit, since every draw is keyed and no step depends on earlier timing.

Departures from the study, for all conditions alike: full weights are trained, no LoRA; the learning
rate falls linearly to zero; gradients are clipped to a global norm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import cast

import torch

from sdbench import assembly, models, problems, provenance
from sdbench.conditions.base import Arm, Condition, Group, resolve
from sdbench.config import Suite
from sdbench.engines.base import Engine, Sampling
from sdbench.errors import ConfigError
from sdbench.grading import Grader
from sdbench.losses.base import Loss
from sdbench.records import Feedback, FinishReason, Problem
from sdbench.rundir import Row, RunDir, append_rows, keep_rows, to_row, write_json
from sdbench.train import batch, checkpoint, rollout
from sdbench.train.ledger import Ledger, Seconds
from sdbench.train.policy import Policy, UpdateResult

Progress = Callable[[int, Row], None]


def train(suite: Suite, arm_name: str, seed: int, out: Path, progress: Progress) -> RunDir:
    """Trains one condition, or continues where it was.

    Args:
        suite: Everything the conditions share.
        arm_name: The condition, as the suite names it.
        seed: Of data order and rollouts.
        out: The run folder; absent, empty, or of the same suite, condition and seed.
        progress: Called after each update with its number and its row of the log; once at the
            start with the update that the run continues from.

    Raises:
        ConfigError: the folder belongs to another run, or a setting is out of range.
        DataError: the problems lack what the condition needs.
        CheckpointError: the checkpoint to continue from is damaged.
    """
    run = RunDir(out)
    if suite.train.threads:
        torch.set_num_threads(suite.train.threads)
    arm = resolve(suite, arm_name)
    loss = assembly.loss(suite, arm)
    training_set = problems.load(suite.task, "train", suite.data.train_problems)
    _claim(run, suite, arm, seed, training_set)
    saved = run.saved_checkpoints()
    policy, ledger = _policy(suite, saved[-1] if saved else None)
    _drop_later_rows(run, ledger.updates)
    if cast("Row", run.read_manifest()["ledger"])["updates"] != ledger.updates:
        _enter_ledger(run, ledger)  # a kill came between a checkpoint and its entry
    progress(ledger.updates, {})
    if ledger.updates >= suite.train.updates:
        return run
    engine = assembly.engine(suite, policy.model)
    condition = arm.build(assembly.surroundings(suite, policy.model))
    stages = _Stages(suite, arm, seed, training_set, engine, condition, policy, loss)
    with Grader() as grader:
        for update in range(ledger.updates + 1, suite.train.updates + 1):
            done = stages.update(update, grader)
            ledger = ledger.plus(done.cost)
            append_rows(run.rollouts, done.rollouts)
            append_rows(run.feedback, done.feedback)
            append_rows(run.train_log, [done.log])
            if update % suite.train.save_every == 0 or update == suite.train.updates:
                ledger = _save(run, policy, ledger)
            progress(update, done.log)
    return run


@dataclass(frozen=True, slots=True)
class _Done:
    """One update's outcome: what goes to disk, and what it cost."""

    rollouts: list[Row]
    feedback: list[Row]
    log: Row
    cost: Ledger


@dataclass(frozen=True, slots=True)
class _Stages:
    """The parts of a run, put together once; `update` takes one update through them."""

    suite: Suite
    arm: Arm
    seed: int
    training_set: Sequence[Problem]
    engine: Engine
    condition: Condition
    policy: Policy
    loss: Loss
    sampling: Sampling = field(init=False)

    def __post_init__(self) -> None:
        config = self.suite.sampling
        sampling = Sampling(config.temperature, config.max_tokens, self.seed)
        object.__setattr__(self, "sampling", sampling)

    def update(self, number: int, grader: Grader) -> _Done:
        begin = time.perf_counter()
        per_update = self.arm.config.problems_per_update or self.suite.train.problems_per_update
        turns = rollout.problems_of(self.training_set, number, per_update, self.seed)
        groups = rollout.draw(
            self.engine, grader, turns, number, self.arm.config.group_size, self.sampling
        )
        drawn = time.perf_counter()
        feedback = self.condition.feedback(groups)
        told = time.perf_counter()
        items = batch.items(groups, feedback)
        result = self.policy.update(items, self.loss, self.sampling.temperature, number)
        end = time.perf_counter()
        cost = _cost(groups, feedback, items, result).timed(
            rollout=drawn - begin,
            feedback=told - drawn,
            teacher=result.teacher_seconds,
            update=end - told - result.teacher_seconds,
            total=end - begin,
        )
        log: Row = {"update": number, **result.metrics, **_rollout_metrics(groups)}
        log["time/seconds"] = round(end - begin, 4)
        return _Done(_rollout_rows(groups), [_feedback_row(number, f) for f in feedback], log, cost)


def _policy(suite: Suite, newest: Path | None) -> tuple[Policy, Ledger]:
    from accelerate import Accelerator

    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise ConfigError(
            f"found {accelerator.num_processes} processes; allowed: 1 for now",
            hint="start sdbench by itself; `sdbench bench --jobs N` runs arms side by side",
        )
    initial = models.source_of(suite.model)
    model = models.load(initial if newest is None else str(newest), suite.dtype)
    policy = Policy(model, initial, suite.dtype, suite.train, accelerator)
    return policy, Ledger() if newest is None else checkpoint.restore(newest, policy)


def _claim(run: RunDir, suite: Suite, arm: Arm, seed: int, training_set: Sequence[Problem]) -> None:
    """Writes the manifest of a new run, or checks that an old one asks for the same."""
    asked: Row = {
        "suite": suite.model_dump(mode="json"),
        "condition": arm.name,
        "plugin": arm.plugin,
        "condition_config": arm.config.model_dump(mode="json"),
        "seed": seed,
        "model": {
            "source": suite.model,
            "sha256": models.fingerprint(models.source_of(suite.model)),
        },
        "data": {
            "task": suite.task,
            **suite.data.model_dump(),
            "sha256": problems.fingerprint(training_set),
        },
    }
    if not run.manifest.exists():
        if run.root.exists() and any(run.root.iterdir()):
            raise ConfigError(
                f"{run.root} is not empty and holds no run; allowed: an absent or empty folder"
            )
        row = {
            "suite_name": suite.name,
            **asked,
            **provenance.describe(),
            "ledger": Ledger().as_row(),
        }
        write_json(run.manifest, row)
        return
    found = run.read_manifest()
    for key, value in asked.items():
        if found.get(key) != value:
            where, old, new = _first_difference(key, found.get(key), value)
            raise ConfigError(
                f"{run.root} holds a run with {where} = {old!r}, asked for {new!r}",
                hint="give another --out, or the same settings to continue",
            )


def _first_difference(key: str, old: object, new: object) -> tuple[str, object, object]:
    if isinstance(old, dict) and isinstance(new, dict):
        for inner in sorted({*old, *new}):
            if old.get(inner) != new.get(inner):
                return _first_difference(f"{key}.{inner}", old.get(inner), new.get(inner))
    return key, old, new


def _drop_later_rows(run: RunDir, update: int) -> None:
    for path in (run.rollouts, run.feedback, run.train_log):
        keep_rows(path, lambda row: cast(int, row["update"]) <= update)


def _save(run: RunDir, policy: Policy, ledger: Ledger) -> Ledger:
    begin = time.perf_counter()
    checkpoint.save(run.checkpoint(ledger.updates), policy, ledger)
    spent = time.perf_counter() - begin
    ledger = ledger.plus(Ledger(seconds=Seconds(checkpoint=spent, total=spent)))
    _enter_ledger(run, ledger)
    return ledger


def _enter_ledger(run: RunDir, ledger: Ledger) -> None:
    write_json(run.manifest, {**run.read_manifest(), "ledger": ledger.as_row()})


def _cost(
    groups: Sequence[Group],
    feedback: Sequence[Feedback],
    items: Sequence[batch.Item],
    result: UpdateResult,
) -> Ledger:
    attempts = [attempt for group in groups for attempt in group.attempts]
    return Ledger(
        updates=1,
        problems=len(groups),
        completions=len(attempts),
        tokens_generated=sum(len(a.rollout.completion_ids) for a in attempts),
        tokens_trained=result.tokens_trained,
        teacher_tokens=result.teacher_tokens,
        critic_tokens=sum(f.critique.tokens for f in feedback if f.critique is not None),
        untaught_rollouts=len(attempts) - sum(item.teaches for item in items),
    )


def _rollout_metrics(groups: Sequence[Group]) -> Row:
    attempts = [attempt for group in groups for attempt in group.attempts]
    flat = [len({a.verdict.correct for a in group.attempts}) == 1 for group in groups]
    lengths = [len(a.rollout.completion_ids) for a in attempts]
    cut = [a.rollout.finish_reason is FinishReason.LENGTH for a in attempts]
    return {
        "rollout/reward": fmean(a.verdict.correct for a in attempts),
        "rollout/length": fmean(lengths),
        "rollout/truncated": fmean(cut),
        "rollout/flat_groups": fmean(flat),
    }


def _rollout_rows(groups: Sequence[Group]) -> list[Row]:
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


def _feedback_row(update: int, feedback: Feedback) -> Row:
    critique = None if feedback.critique is None else to_row(feedback.critique)
    return {
        "rollout_id": feedback.rollout_id,
        "update": update,
        "advantage": feedback.advantage,
        "context": feedback.context,
        "critique": critique,
    }
