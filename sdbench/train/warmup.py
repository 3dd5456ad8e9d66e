"""A short supervised warm-up that teaches the step tags, before any condition.

In: the suite's model, and worked solutions of its training problems, written as tagged steps. Out: a
model folder from which every condition of the suite starts, and which counts as untrained. The loss
is the mean negative log-probability of the solution's tokens, its end included; all weights are
trained.

The problems come from the end of the training set; the conditions draw from the rest.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sdbench import models, problems, prompts, split_file, worked
from sdbench.config import Suite, WarmUp
from sdbench.errors import ConfigError, DataError
from sdbench.models import Model, student_view
from sdbench.records import Problem, TeacherView
from sdbench.rundir import write_json, written_aside
from sdbench.train import batch as batches
from sdbench.train import processes
from sdbench.train.batch import Item
from sdbench.train.chunked import Observed
from sdbench.train.scorer import Scorer

RISE = 0.1


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a warm-up made.

    Attributes:
        folder: The model.
        made: False if it was there already.
    """

    folder: Path
    made: bool


def folder_of(suite: Suite, runs: Path) -> Path:
    """Where the warmed model of a suite lies: one folder for each way it could be made."""
    made_from = {
        "model": models.fingerprint(models.source_of(suite.model)),
        "task": suite.task,
        "train_problems": suite.data.train_problems,
        "prompts": suite.prompts,
        "thinking": suite.thinking.student,
        "warmup": None if suite.warmup is None else suite.warmup.model_dump(),
    }
    if suite.data.split is not None:
        made_from["split"] = split_file.read(Path(suite.data.split)).sha256
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    return runs / suite.name / "warm" / key


def warm_up(suite: Suite, folder: Path, progress: Callable[[int, float], None]) -> WarmStart:
    """Makes the warmed model, once.

    Args:
        suite: A suite with a `[warmup]` table.
        folder: From `folder_of`.
        progress: Called after each update with its number and its loss.

    Raises:
        ConfigError: the suite has no warm-up, or one that needs more problems than there are.
        DataError: a problem has no worked solution.
    """
    if folder.is_dir():
        return WarmStart(folder, made=False)
    config = suite.warmup
    if config is None:
        raise ConfigError(f"suite {suite.name} has no table [warmup]")
    if suite.train.threads:
        torch.set_num_threads(suite.train.threads)
    model = models.load(suite.model, "float32")
    order = _order(problems.of_suite(suite, "train", suite.data.train_problems), config)
    model.network.to(processes.open_state().device)
    optimizer = torch.optim.AdamW(model.network.parameters(), weight_decay=0.0)
    scorer = Scorer(model.network)
    model.network.train()
    for update, chosen in enumerate(order, 1):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, update)
        items = [_item(suite, model, problem) for problem in chosen]
        loss = _backward(scorer, items, suite)
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), suite.train.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        progress(update, loss)
    model.network.eval()
    with written_aside(folder) as aside:
        model.network.save_pretrained(aside)
        model.tokenizer.save_pretrained(aside)
        write_json(aside / "warmup.json", {"model": suite.model, "warmup": config.model_dump()})
    return WarmStart(folder, made=True)


def _order(training_set: Sequence[Problem], config: WarmUp) -> list[list[Problem]]:
    """The problems of each update, no two alike, from the end of the training set."""
    wanted = config.updates * config.problems_per_update
    if wanted >= len(training_set):
        raise ConfigError(
            f"[warmup] needs {config.updates} x {config.problems_per_update} problems; "
            f"data.train_problems gives {len(training_set)}"
        )
    chosen = list(training_set[len(training_set) - wanted :])
    random.Random(config.seed).shuffle(chosen)
    size = config.problems_per_update
    return [chosen[start : start + size] for start in range(0, wanted, size)]


def _learning_rate(config: WarmUp, update: int) -> float:
    rise = min(1.0, update / max(1.0, RISE * config.updates))
    return config.learning_rate * rise * (1 - (update - 1) / config.updates)


def _item(suite: Suite, model: Model, problem: Problem) -> Item:
    """A worked solution as if the solver had written it."""
    if problem.solution is None:
        raise DataError(f"problem {problem.id} of task {problem.task} has no worked solution")
    prompt_ids = prompts.solver(
        model.tokenizer, suite.prompts, problem.prompt, suite.thinking.student
    )
    text = worked.tagged(problem.solution, problem.answer)
    completion_ids = model.encode_completion(text)
    view: TeacherView = student_view(prompt_ids, completion_ids)
    return Item(problem.id, view, completion_ids, None, None)


def _backward(scorer: Scorer, items: Sequence[Item], suite: Suite) -> float:
    """Adds the gradient of the mean loss over the tokens of an update; gives that loss."""
    tokens = sum(len(item.completion_ids) for item in items)
    total = 0.0
    for micro in batches.micro_batches(items, suite.train.micro_batch_rollouts):
        ids_N = batches.packed_ids(micro)

        def score(
            logits_nV: torch.Tensor, part: slice, ids_N: torch.Tensor = ids_N
        ) -> tuple[torch.Tensor, Observed]:
            targets_n = ids_N[part].to(logits_nV.device)
            losses_n = torch.nn.functional.cross_entropy(logits_nV, targets_n, reduction="none")
            return losses_n / tokens, {}

        loss, _ = scorer([item.student for item in micro], score, suite.train.chunk_logits)
        loss.backward()
        total += loss.item()
    return total
