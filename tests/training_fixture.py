"""What the tests of training share: single updates of the tiny solver, and runs of a few updates."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from sdbench import models, prompts
from sdbench.arithmetic.expression import sample
from sdbench.config import LoRA, Suite, load_suite
from sdbench.losses.base import Loss, LossInputs
from sdbench.models import Model, completion_logits, student_view
from sdbench.records import TeacherView
from sdbench.rundir import Row, RunDir, read_rows
from sdbench.train.batch import Item
from sdbench.train.network import initial_network, open_network
from sdbench.train.policy import Objective, Policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEED = 3
MAX_TOKENS = 96
ADAPTER = LoRA(rank=2, alpha=4.0, targets=["q_proj", "v_proj"])
OVERRIDES = (
    "data.train_problems=10",  # fewer than 3 x 4, so the last update begins a second epoch
    "data.validation_problems=6",
    "data.test_problems=4",
    "train.updates=3",
    "train.save_every=2",
    "train.problems_per_update=4",
    "train.learning_rate=3e-3",
    "train.warmup_updates=1",
    "train.micro_batch_rollouts=3",
    "condition.grpo.group_size=6",
    "condition.grpo_matched_rollouts.group_size=4",
    "condition.grpo_matched_rollouts.problems_per_update=1",
    "evaluation.k=2",
    "evaluation.validation_k=2",
)
# What depends on the machine and the hour, not on the run.
MEASURED = ("time/", "speed/", "memory/")


def short(*overrides: str) -> Suite:
    """The embedded suite with runs of three updates."""
    return load_suite("tiny", [*OVERRIDES, *overrides])


def ignore(update: int, log: Row) -> None:
    """Nobody watches."""


def log_of(run: RunDir) -> list[Row]:
    """The log of a run without what was measured."""
    return [
        {name: value for name, value in row.items() if not name.startswith(MEASURED)}
        for row in read_rows(run.train_log)
    ]


def with_train(suite: Suite, **changes: object) -> Suite:
    """The suite without warm-up of the learning rate, and with these settings of the optimiser."""
    train = suite.train.model_copy(update={"warmup_updates": 0, **changes})
    return suite.model_copy(update={"train": train})


def make_items(organism: Model, lengths: Sequence[int]) -> list[Item]:
    """Rollouts of these lengths with an advantage of 1 or -1 and a teacher that reads a context.

    Their tokens are arbitrary; they were drawn with the organism's own probabilities.
    """
    rng = random.Random(5)
    made = []
    for index, length in enumerate(lengths):
        problem = sample(rng)
        prompt = prompts.solver(organism.tokenizer, "organism", problem.text)
        ids = tuple(rng.randrange(4, 62) for _ in range(length))
        told = prompts.teacher(
            organism.tokenizer, "organism", "solution", problem.text, "1" * (index % 3)
        )
        view = student_view(prompt, ids)
        made.append(
            Item(
                id=f"rollout {index}",
                student=view,
                completion_ids=ids,
                sampling_logprobs=tuple(logprobs_of(organism.network, [view], ids)),
                advantage=(-1.0) ** index,
                teacher=TeacherView(told + ids, tuple(range(len(told), len(told) + len(ids)))),
            )
        )
    return made


@torch.no_grad()
def logprobs_of(
    network: PreTrainedModel, views: Sequence[TeacherView], ids: Sequence[int]
) -> list[float]:
    """Log-probabilities of the completion tokens, in float64 from the network's own logits."""
    logprobs_NV = completion_logits(network, views).double().log_softmax(-1)
    found: list[float] = logprobs_NV.gather(-1, torch.tensor(ids)[:, None])[:, 0].tolist()
    return found


def organism_in_float64() -> Model:
    """The tiny solver in a type in which the order of a sum does not show."""
    model = models.load("organism")
    model.network.double()
    return model


def exact_policy(suite: Suite, *, teaches: bool = True) -> Policy:
    """A fresh policy in float64.

    AdamW's first step is rate * g / (|g| + 1e-8): in float32 a weight whose gradient is as small as
    its rounding error would move arbitrarily.
    """
    return Policy(
        organism_in_float64(),
        suite,
        Accelerator(),
        lambda: organism_in_float64().network,
        teaches=teaches,
    )


def fresh_policy(suite: Suite, *, teaches: bool = True) -> Policy:
    """A fresh policy as a run opens it."""
    return Policy(
        open_network(suite, SEED, None),
        suite,
        Accelerator(),
        lambda: initial_network(suite),
        teaches=teaches,
    )


def objective(suite: Suite, loss: Loss, update: int = 1) -> Objective:
    """What an update of the suite minimises with this loss."""
    return Objective(
        loss=loss,
        temperature=1.0,
        max_tokens=MAX_TOKENS,
        normalisation=suite.train.normalisation,
        update=update,
    )


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {n: w.detach().clone() for n, w in policy.model.network.named_parameters()}


def ones(inputs: LossInputs) -> torch.Tensor:
    """A loss of 1 at each token, whose gradient is zero."""
    return inputs.policy_logits_NV.sum(-1) * 0 + 1


@dataclass
class Spy:
    """A loss that keeps what it was asked and the gradients of what it said.

    Attributes:
        loss: The loss itself.
        inputs: Of each call.
        values: The losses of each call, [N].
        gradients: With respect to the logits, after weighting, of each call, [N, V].
    """

    loss: Loss
    inputs: list[LossInputs] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, inputs: LossInputs) -> torch.Tensor:
        self.inputs.append(inputs)
        if inputs.policy_logits_NV.requires_grad:
            inputs.policy_logits_NV.register_hook(self.gradients.append)
        values = self.loss(inputs)
        self.values.append(values.detach())
        return values


Progress = Callable[[int, Row], None]
