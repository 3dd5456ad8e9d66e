"""The supervised warm-up: what it learns from, that it learns, and that it is made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from qwen3_fixture import tiny_model

from sdbench import models, problems, prompts
from sdbench.config import Suite, load_suite, warmup_problems
from sdbench.errors import ConfigError
from sdbench.rundir import read_rows
from sdbench.suite import warmed
from sdbench.train import warmup
from sdbench.train.loop import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), "smollm2", max_length=2048)


def suite_of(model: Path, *changes: str) -> Suite:
    """6 updates of 2 problems from a training set of 20, at a rate that a random model learns with."""
    return load_suite(
        "smollm2-gsm",
        [
            *(f'model="{model}"', "data.train_problems=20", "warmup.updates=6"),
            *("warmup.problems_per_update=2", "warmup.learning_rate=0.01", "train.threads=1"),
            *("train.updates=1", "train.save_every=1", "train.problems_per_update=4"),
            *("sampling.max_tokens=8", *changes),
        ],
    )


def test_it_learns_once(model: Path, tmp_path: Path) -> None:
    """A random model knows nothing: log(vocabulary) nats a token at first, less at the end."""
    suite = suite_of(model)
    losses: list[float] = []
    found = warmed(suite, tmp_path, lambda _, loss: losses.append(loss))
    vocabulary = models.load(str(model)).network.config.vocab_size
    assert len(losses) == 6
    assert losses[0] == pytest.approx(torch.tensor(float(vocabulary)).log().item(), rel=0.05)
    assert losses[-1] < losses[0] - 0.5
    assert found.model == str(warmup.folder_of(suite, tmp_path))
    assert models.load(found.model).tokenizer.chat_template
    again = warmed(suite, tmp_path, lambda _, loss: losses.append(loss))
    assert again == found
    assert len(losses) == 6


def test_a_kill_leaves_no_half_model(model: Path, tmp_path: Path) -> None:
    suite = suite_of(model)

    def killed(update: int, loss: float) -> None:
        if update == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warmed(suite, tmp_path, killed)
    assert not warmup.folder_of(suite, tmp_path).exists()


def test_other_settings_are_another_model(model: Path, tmp_path: Path) -> None:
    folders = {
        warmup.folder_of(suite_of(model, change), tmp_path)
        for change in ("warmup.seed=0", "warmup.seed=1", "warmup.updates=5")
    }
    assert len(folders) == 3
    # What only the conditions use does not matter.
    assert warmup.folder_of(suite_of(model, "train.learning_rate=1"), tmp_path) in folders


def test_targets_are_tagged_solutions_with_an_end(model: Path) -> None:
    suite = suite_of(model)
    opened = models.open_model(str(model))
    problem = problems.load("gsm_symbolic", "train", 1)[0]
    item = warmup._item(suite, opened, problem)
    text = opened.decode(item.completion_ids)
    assert text.startswith("<step_1>")
    assert text.endswith(f"<answer>\\boxed{{{problem.answer}}}</answer>")
    assert item.completion_ids[-1] == opened.end_ids[0]
    prompt_ids = prompts.solver(opened.tokenizer, "steps", problem.prompt)
    assert item.student.input_ids == prompt_ids + item.completion_ids


def test_conditions_do_not_draw_its_problems(model: Path, tmp_path: Path) -> None:
    """20 problems, the last 12 for the warm-up: two updates of 4 draw the first 8, each once."""
    suite = warmed(suite_of(model, "train.updates=2"), tmp_path, lambda _, loss: None)
    assert warmup_problems(suite) == 12
    run = train(suite, "reference", 0, tmp_path / "run", lambda _, log: None)
    drawn = [str(row["problem_id"]) for row in read_rows(run.rollouts)]
    expected = [problem.id for problem in problems.load("gsm_symbolic", "train", 20)[:8]]
    assert sorted(drawn) == sorted(expected)


def test_more_problems_than_there_are_is_refused(model: Path, tmp_path: Path) -> None:
    """12 of 12 would leave the conditions none."""
    with pytest.raises(ConfigError, match="needs 6 x 2 problems; "):
        warmed(suite_of(model, "data.train_problems=12"), tmp_path, lambda _, loss: None)


def test_a_suite_without_a_warm_up_stays_as_it_is(tiny: Suite, tmp_path: Path) -> None:
    assert warmed(tiny, tmp_path, lambda _, loss: None) is tiny
    with pytest.raises(ConfigError, match=r"has no table \[warmup\]"):
        warmup.warm_up(tiny, tmp_path / "warm", lambda _, loss: None)
