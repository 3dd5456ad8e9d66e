"""One training run, read from top to bottom: draw, grade, give feedback, update, log, save.

In: a suite, an arm, a seed and a folder. Out: that folder, with a checkpoint every `save_every`
updates. Called again after a kill, it continues after the last complete checkpoint; rows that
belong to later updates are dropped and written anew. On CPU the weights then equal those of an
undisturbed run bit for bit, since every draw is keyed and no step depends on earlier timing. SIGTERM
has a checkpoint written first.

Started by `accelerate launch`, each process takes its share of every update's problems, and the
first one writes.

Departures from the study, for all conditions alike: gradients are clipped to a global norm, and the
learning rate falls linearly to zero unless the suite holds it constant.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, cast

import torch

from sdbench import assembly, models, problems, provenance, traces
from sdbench.conditions.base import Arm, Condition, Group, resolve
from sdbench.config import Suite, warmup_problems
from sdbench.engines.base import Engine, Sampling
from sdbench.errors import ConfigError, Stopped
from sdbench.grading import Grader
from sdbench.losses.base import Loss
from sdbench.records import Feedback, Problem
from sdbench.rundir import Row, RunDir, append_rows, keep_rows, read_rows, write_json
from sdbench.train import ahead, batch, checkpoint, processes, rollout, rows
from sdbench.train.checkpoint import TrainingState
from sdbench.train.health import Watch, rollout_metrics
from sdbench.train.ledger import Ledger, Seconds
from sdbench.train.network import initial_network, open_network
from sdbench.train.policy import Objective, Policy, UpdateResult
from sdbench.train.stop import stopping

if TYPE_CHECKING:
    from accelerate import Accelerator

Progress = Callable[[int, Row], None]


def train(
    suite: Suite,
    arm_name: str,
    seed: int,
    out: Path,
    progress: Progress,
    command: str = "",
    store: Path | None = None,
) -> RunDir:
    """Trains one condition, or continues where it was.

    Args:
        suite: Everything the conditions share.
        arm_name: The condition, as the suite names it.
        seed: Of data order and rollouts.
        out: The run folder; absent, empty, or of the same suite, condition and seed.
        progress: Called after each update with its number and its row of the log; once at the
            start with the update that the run continues from. Only in the first process.
        command: What repeats this run, for the model cards of its checkpoints.
        store: Folder in which critiques that cost something are kept and found; None for nowhere.

    Raises:
        ConfigError: the folder belongs to another run, or a setting is out of range.
        DataError: the problems lack what the condition needs.
        CheckpointError: the checkpoint to continue from is damaged.
        Stopped: SIGTERM came; there is a checkpoint of the last update.
    """
    run = RunDir(out)
    if suite.train.threads:
        torch.set_num_threads(suite.train.threads)
    arm = resolve(suite, arm_name)
    loss = assembly.loss(suite, arm)
    accelerator = processes.open_accelerator(suite, out)
    training_set = problems.of_suite(suite, "train", suite.data.train_problems)
    training_set = training_set[: len(training_set) - warmup_problems(suite)]
    try:
        processes.by_the_first(lambda: _claim(run, suite, arm, seed, training_set), accelerator)
        policy, state = _policy(suite, arm, seed, run, accelerator)
        processes.by_the_first(lambda: _tidy(run, suite, state.ledger), accelerator)
        progress = progress if accelerator.is_main_process else _ignore
        progress(state.ledger.updates, {})
        if state.ledger.updates < suite.train.updates:
            sampled = policy.model.around(policy.model.network, suite.dtype)
            surroundings = assembly.surroundings(
                suite, policy.model, arm, store=store, run=_name_of(run)
            )
            with closing(surroundings.critic), closing(assembly.engine(suite, sampled)) as engine:
                condition = arm.build(surroundings)
                trainer = _Trainer(
                    run, suite, arm, seed, accelerator, policy, loss, engine, condition, command
                )
                trainer.go(training_set, state, progress)
    finally:
        processes.close(accelerator)
    return run


@dataclass(frozen=True, slots=True)
class _Done:
    """One update's outcome: what goes to disk, and what it cost."""

    rollouts: list[Row]
    feedback: list[Row]
    log: Row
    cost: Ledger


class _Trainer:
    """The parts of a run, put together once; `go` takes it to its end."""

    def __init__(
        self,
        run: RunDir,
        suite: Suite,
        arm: Arm,
        seed: int,
        accelerator: Accelerator,
        policy: Policy,
        loss: Loss,
        engine: Engine,
        condition: Condition,
        command: str,
    ) -> None:
        self._run, self._suite, self._arm, self._seed = run, suite, arm, seed
        self._accelerator, self._policy, self._loss = accelerator, policy, loss
        self._engine, self._condition, self._command = engine, condition, command
        self._sampling = Sampling(suite.sampling.temperature, suite.sampling.max_tokens, seed)
        self._asking = rollout.Asking(
            suite.prompts, suite.thinking.student, arm.config.group_size, self._sampling
        )
        if engine.shares_weights:
            _refuse_shared_weights(suite, accelerator)

    def go(self, training_set: Sequence[Problem], state: TrainingState, progress: Progress) -> None:
        """Takes the run from a state to its end, or to a request to stop."""
        last, every = self._suite.train.updates, self._suite.train.save_every
        ledger, saved = state.ledger, state.ledger.updates
        logged = list(read_rows(self._run.train_log))
        watch, rewards = Watch(logged), _rewards_after(logged, saved - saved % every)
        if self._accelerator.is_main_process:
            title = f"{self._suite.name} {self._arm.name} seed {self._seed}"
            processes.start_trackers(self._accelerator, title, ledger.updates)
        self._engine.sync(self._policy.model.network)
        at_once = self._accelerator.num_processes == 1
        with stopping(at_once=at_once) as stop, Grader() as grader:
            source = self._source(training_set, grader, state)
            try:
                for update in range(ledger.updates + 1, last + 1):
                    begin = time.perf_counter()
                    groups = source.take(update, last)
                    drawn = time.perf_counter() - begin
                    feedback = self._feedback(groups)
                    told = time.perf_counter() - begin - drawn
                    with stop.held():
                        done = self._update(update, groups, feedback, drawn, told)
                        done.log["warnings"] = list(watch.see(done.log))
                        ledger = ledger.plus(done.cost)
                        rewards.append(cast(float, done.log["rollout/reward"]))
                        self._write(done)
                        source.settle(update)
                        self._engine.sync(self._policy.model.network)
                        if update % every == 0 or update == last:
                            ledger = self._save(ledger, fmean(rewards), source, done.log)
                            saved, rewards = update, []
                        progress(update, done.log)
                    if processes.any_asks(stop.asked, self._accelerator):
                        raise Stopped("stopped by SIGTERM")
            except Stopped as stopped:
                if ledger.updates != saved:
                    self._save(ledger, fmean(rewards), source, done.log)
                raise Stopped(
                    f"{stopped} after update {ledger.updates} of {last}",
                    hint="the same command continues",
                ) from stopped
            finally:
                stop.over()
                source.close()

    def _source(
        self, training_set: Sequence[Problem], grader: Grader, state: TrainingState
    ) -> ahead.Source:
        """Where each update's rollouts come from: this process's share of them."""
        per_update = self._arm.config.problems_per_update or self._suite.train.problems_per_update

        def draw(update: int) -> list[Group]:
            turns = rollout.problems_of(training_set, update, per_update, self._seed)
            own = processes.share(turns, self._accelerator)
            return rollout.draw(self._engine, grader, own, update, self._asking)

        held = None
        if state.ahead is not None:
            by_id = {problem.id: problem for problem in training_set}
            held = processes.share(ahead.from_rows(state.ahead, by_id), self._accelerator)
        return ahead.Source(
            draw, ahead=self._suite.train.overlap, first=state.ledger.updates + 1, held=held
        )

    def _feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """What the condition says of the rollouts that this arm trains on."""
        config = self._arm.config
        if config.compares:
            wanted = {a.rollout.id for g in groups for a in g.attempts if config.trains_on(a)}
            return [
                one
                if one.rollout_id in wanted
                else Feedback(one.rollout_id, critique=one.critique, dropped="unwanted")
                for one in self._condition.feedback(groups)
                if one.rollout_id in wanted or one.critique is not None
            ]
        kept = [
            Group(g.problem, tuple(a for a in g.attempts if config.trains_on(a))) for g in groups
        ]
        return self._condition.feedback([group for group in kept if group.attempts])

    def _update(
        self,
        number: int,
        groups: Sequence[Group],
        feedback: Sequence[Feedback],
        drawn: float,
        told: float,
    ) -> _Done:
        """Trains on an update's rollouts; `drawn` and `told` are the seconds that they took."""
        begin = time.perf_counter()
        items = batch.items(groups, feedback, self._roles(groups, feedback))
        _seed_dropout(self._seed, number, self._accelerator.process_index)
        result = self._policy.update(items, self._objective(number))
        trained = time.perf_counter() - begin
        groups = processes.joined(groups, self._accelerator)
        feedback = _in_order(processes.joined(feedback, self._accelerator), groups)
        cost = _cost(groups, feedback, result).timed(
            rollout=drawn,
            feedback=told,
            teacher=result.teacher_seconds,
            update=result.learning_seconds,
            total=drawn + told + trained,
        )
        log: Row = {"update": number, **result.metrics, **rollout_metrics(groups)}
        log |= {f"feedback/{name}": share for name, share in _dropped(groups, feedback).items()}
        log |= {f"time/{name}": round(t, 4) for name, t in _times(cost.seconds).items()}
        log["speed/tokens_per_second"] = round(cost.tokens_generated / cost.seconds.total, 2)
        log["memory/peak_gib"] = round(_peak_gib(), 3)
        return _Done(rows.rollout_rows(groups), rows.feedback_rows(number, feedback), log, cost)

    def _objective(self, number: int) -> Objective:
        return Objective(
            loss=self._loss,
            temperature=self._sampling.temperature,
            max_tokens=self._sampling.max_tokens,
            normalisation=self._arm.config.normalisation or self._suite.train.normalisation,
            update=number,
        )

    def _roles(
        self, groups: Sequence[Group], feedback: Sequence[Feedback]
    ) -> dict[str, tuple[str, ...]]:
        """The step that each token belongs to, for rollouts whose critique says where they err."""
        rollouts = {a.rollout.id: a.rollout for group in groups for a in group.attempts}
        known: dict[str, tuple[str, ...]] = {}
        for one in feedback:
            if one.critique is not None and one.view is not None:
                written = rollouts[one.rollout_id]
                ends = traces.token_ends(written.completion_ids, self._policy.model.decode)
                known[written.id] = traces.step_roles(
                    written.text,
                    ends,
                    one.critique.first_wrong_step,
                    written=one.critique.error_written,
                )
        return known

    def _write(self, done: _Done) -> None:
        if not self._accelerator.is_main_process:
            return
        append_rows(self._run.rollouts, done.rollouts)
        append_rows(self._run.feedback, done.feedback)
        append_rows(self._run.train_log, [done.log])
        numbers = {name: v for name, v in done.log.items() if isinstance(v, int | float)}
        self._accelerator.log(numbers, step=cast(int, done.log["update"]))

    def _save(self, ledger: Ledger, reward: float, source: ahead.Source, log: Row) -> Ledger:
        begin = time.perf_counter()
        held = source.held(ledger.updates)
        everyones = None if held is None else processes.joined(held, self._accelerator)
        state = TrainingState(
            ledger, reward, None if everyones is None else ahead.as_rows(everyones)
        )
        writes = self._accelerator.is_main_process
        title = f"{self._suite.name}, {self._arm.name}, seed {self._seed}, update {ledger.updates}"
        library = "transformers" if self._suite.lora is None else "peft"
        card = checkpoint.model_card(title, self._suite.model, library, self._command, log)
        checkpoint.save(
            self._run.checkpoint(ledger.updates), self._policy, state, card, writes=writes
        )
        spent = time.perf_counter() - begin
        ledger = ledger.plus(Ledger(seconds=Seconds(checkpoint=spent, total=spent)))
        if writes:
            _enter_ledger(self._run, ledger)
            checkpoint.prune(self._run, self._suite.train)
        # A process that ended now would have the launcher end the one that still writes.
        self._accelerator.wait_for_everyone()
        return ledger


def _refuse_shared_weights(suite: Suite, accelerator: Accelerator) -> None:
    """What an engine cannot do that samples the very weights under training."""
    for asked, why in (
        (suite.train.overlap, "train.overlap: the weights change while rollouts are drawn ahead"),
        (processes.is_sharded(accelerator), "FSDP: this process holds shards of the weights only"),
    ):
        if asked:
            raise ConfigError(
                f"the engine {suite.engine.name!r} samples the weights under training; {why}",
                hint="use the engine vllm or server, which hold their own weights",
            )


def _policy(
    suite: Suite, arm: Arm, seed: int, run: RunDir, accelerator: Accelerator
) -> tuple[Policy, TrainingState]:
    saved = run.saved_checkpoints()
    newest = saved[-1] if saved else None
    model = open_network(suite, seed, newest)
    policy = Policy(
        model,
        suite,
        accelerator,
        lambda: initial_network(suite),
        teaches=arm.config.teaches,
        contrasts=arm.config.contrasts,
    )
    if newest is None:
        return policy, TrainingState(Ledger(), 0.0)
    return policy, checkpoint.restore(newest, policy)


def _claim(run: RunDir, suite: Suite, arm: Arm, seed: int, training_set: Sequence[Problem]) -> None:
    """Writes the manifest of a new run, or checks that an old one asks for the same.

    Other arms of the suite may have come or gone since; its own settings are compared by themselves.
    """
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
    held, wanted = _without_arms(run.read_manifest()), _without_arms(asked)
    for key, value in wanted.items():
        if held.get(key) != value:
            where, old, new = _first_difference(key, held.get(key), value)
            raise ConfigError(
                f"{run.root} holds a run with {where} = {old!r}, asked for {new!r}",
                hint="give another --out, or the same settings to continue",
            )


def _without_arms(manifest: Row) -> Row:
    suite = manifest.get("suite")
    if not isinstance(suite, dict):
        return manifest
    return {**manifest, "suite": {k: v for k, v in suite.items() if k != "condition"}}


def _name_of(run: RunDir) -> str:
    """A name that a run keeps when it continues, and that no other has: where it is, and since when."""
    return f"{run.root.resolve()} {run.read_manifest().get('started')}"


def _first_difference(key: str, old: object, new: object) -> tuple[str, object, object]:
    if isinstance(old, dict) and isinstance(new, dict):
        for inner in sorted({*old, *new}):
            if old.get(inner) != new.get(inner):
                return _first_difference(f"{key}.{inner}", old.get(inner), new.get(inner))
    return key, old, new


def _tidy(run: RunDir, suite: Suite, ledger: Ledger) -> None:
    """Does what a kill kept from being done: ledger entered, rows of later updates dropped."""
    for path in (run.rollouts, run.feedback, run.train_log):
        keep_rows(path, lambda row: cast(int, row["update"]) <= ledger.updates)
    if cast("Row", run.read_manifest()["ledger"])["updates"] != ledger.updates:
        _enter_ledger(run, ledger)
    checkpoint.prune(run, suite.train)


def _ignore(_: int, __: Row) -> None:
    """Shows nothing, where another process does."""


def _seed_dropout(seed: int, update: int, process: int) -> None:
    torch.manual_seed(random.Random(f"dropout-{seed}-{update}-{process}").getrandbits(63))


def _rewards_after(logged: Sequence[Row], update: int) -> list[float]:
    """The mean rewards of the updates after this one."""
    return [cast(float, r["rollout/reward"]) for r in logged if cast(int, r["update"]) > update]


def _enter_ledger(run: RunDir, ledger: Ledger) -> None:
    write_json(run.manifest, {**run.read_manifest(), "ledger": ledger.as_row()})


def _in_order(feedback: Sequence[Feedback], groups: Sequence[Group]) -> list[Feedback]:
    """Feedback in the order of its rollouts, however they were shared out."""
    attempts = [attempt for group in groups for attempt in group.attempts]
    place = {attempt.rollout.id: number for number, attempt in enumerate(attempts)}
    return sorted(feedback, key=lambda one: place[one.rollout_id])


def _cost(groups: Sequence[Group], feedback: Sequence[Feedback], result: UpdateResult) -> Ledger:
    attempts = [attempt for group in groups for attempt in group.attempts]
    taught = sum(one.view is not None or bool(one.advantage) for one in feedback)
    critiques = [one.critique for one in feedback if one.critique is not None]
    return Ledger(
        updates=1,
        problems=len(groups),
        completions=len(attempts),
        tokens_generated=sum(len(a.rollout.completion_ids) for a in attempts),
        tokens_trained=result.tokens_trained,
        teacher_tokens=result.teacher_tokens,
        critic_tokens=sum(critique.tokens for critique in critiques),
        critic_tokens_stored=sum(critique.tokens for critique in critiques if critique.stored),
        untaught_rollouts=len(attempts) - taught,
    )


def _dropped(groups: Sequence[Group], feedback: Sequence[Feedback]) -> dict[str, float]:
    """Shares of the rollouts whose feedback could not be used, by reason, and by fault of a critique.

    A critique may have several faults, so those do not add up to the share without one.
    """
    reasons = Counter[str](one.dropped for one in feedback if one.dropped is not None)
    critiques = [one.critique for one in feedback if one.critique is not None]
    reasons.update(f"fault_{fault}" for one in critiques for fault in one.faults)
    completions = sum(len(group.attempts) for group in groups)
    return {reason: count / completions for reason, count in sorted(reasons.items())}


def _times(seconds: Seconds) -> dict[str, float]:
    return {
        "seconds": seconds.total,
        "rollout": seconds.rollout,
        "critic": seconds.feedback,
        "teacher": seconds.teacher,
        "update": seconds.update,
    }


def _peak_gib() -> float:
    """Most memory that this process has held so far: on the GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    # macOS counts bytes, Linux KiB.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
