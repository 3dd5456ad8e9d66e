"""What the tests share: one thread, the shipped tiny solver, attempts with real tokens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

from sdbench import assembly, models, prompts
from sdbench.arithmetic.expression import Expression
from sdbench.arithmetic.worked import reference_solution
from sdbench.cli import main
from sdbench.conditions.base import Surroundings
from sdbench.config import Suite, load_suite
from sdbench.models import Model
from sdbench.records import Attempt, FinishReason, Problem, Rollout, Verdict, VerdictStatus

settings.register_profile(
    "sdbench", deadline=None, derandomize=True, database=None, max_examples=50
)
settings.load_profile("sdbench")

RunCommand = Callable[..., int]
MakeAttempt = Callable[[Expression, str, int], Attempt]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Numbers that depend on the order of a sum stay the same on every machine."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def organism() -> Model:
    """The tiny solver; tests that train load their own."""
    torch.set_num_threads(1)
    return models.load("organism")


@pytest.fixture(scope="session")
def tiny() -> Suite:
    """The embedded suite as it ships."""
    return load_suite("tiny")


@pytest.fixture(scope="session")
def surroundings(tiny: Suite, organism: Model) -> Surroundings:
    """The oracle critic and the organism's teacher prompts."""
    return assembly.surroundings(tiny, organism)


@pytest.fixture(scope="session")
def attempt_at(organism: Model) -> MakeAttempt:
    """Makes the attempt with this index at an expression, ended by the solver itself."""

    def make(expression: Expression, text: str, index: int) -> Attempt:
        problem = Problem(
            id=expression.text,
            task="arithmetic",
            split="train",
            prompt=expression.text,
            answer=str(expression.value),
            solution=reference_solution(expression),
        )
        ids = (*organism.tokenizer.encode(text, add_special_tokens=False), organism.end_ids[0])
        rollout = Rollout(
            id=f"{problem.id}#{index}",
            problem_id=problem.id,
            update=1,
            index=index,
            prompt_ids=prompts.solver(organism.tokenizer, "organism", problem.prompt),
            completion_ids=ids,
            sampling_logprobs=(-0.5,) * len(ids),
            text=text,
            finish_reason=FinishReason.STOP,
        )
        right = f"<answer>{problem.answer}</answer>" in text
        status = VerdictStatus.CORRECT if right else VerdictStatus.INCORRECT
        return Attempt(problem, rollout, Verdict(rollout.id, status, None, "by hand"))

    return make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunCommand:
    """Runs a command of the command line in an empty folder and gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sdbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0)

    return call
