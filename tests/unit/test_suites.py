"""Every suite that ships: it loads, and each of its arms trains, with a shrunk random model.

What makes a run small is overridden and nothing else: model, critic's model and engines, numbers of
problems and tokens. The data has the hub's own columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hub_fixture import local_tasks
from qwen3_fixture import Kind, tiny_model
from safetensors.torch import load_file

from sdbench import assembly, models
from sdbench.conditions.base import resolve
from sdbench.config import Suite, load_suite, suite_names
from sdbench.critics.model import ModelCritic
from sdbench.rundir import Row, RunDir, read_rows
from sdbench.suite import warmed
from sdbench.train.loop import train

ARCHITECTURE: dict[str, Kind] = {
    "paper": "qwen3",
    "paper-1gpu": "qwen3",
    "smollm2-gsm": "smollm2",
    "tiny": "organism",
    "tiny-controls": "organism",
}
# Arms to which rollouts that are all wrong and have no steps give nothing to learn from.
STILL = {
    *("grpo", "grpo_matched_rollouts", "sibling", "critique_correct_only"),
    *("critique_wrong_step", "self_critique"),
}
FREE = "reference_free"  # its teacher is the student itself, up to rounding
SMALL = [
    *("train.updates=1", "train.save_every=1", "train.problems_per_update=2"),
    *("train.threads=1", "sampling.max_tokens=24", 'engine={name="hf"}'),
]
WRITTEN = r"<case>D</case><step_1>2 + 2 = 4</step_1><answer>\\boxed{4}</answer>"
MODEL_CRITIC = [
    'critic.options.engine={name="fake", options={script={"*"=["' + WRITTEN + '"]}}}',
    "critic.options.max_tokens=64",
    "critic.options.audit={verbatim=0, refuse=[]}",  # it is of no rollout in particular
]
LOCAL = ["data.train_problems=5", "data.validation_problems=3", "data.test_problems=6"]


# Arms by a plugin's name, which need no table in the suite; the suite's scripted critic writes here.
BY_NAME = [("paper-1gpu", "self_critique")]
SHORTEST_ROOM = 4096  # tokens of instructions, problem, solution and a rollout of 2,048


def arms() -> list[tuple[str, str]]:
    return [(name, arm) for name in suite_names() for arm in load_suite(name).condition] + BY_NAME


def model_critics() -> list[tuple[str, str]]:
    return [
        (name, arm)
        for name in suite_names()
        for arm in ("critique", "self_critique")
        if load_suite(name).critic.name == "model"
    ]


def test_every_suite_has_a_shrunk_model_here() -> None:
    assert set(suite_names()) == set(ARCHITECTURE)


@pytest.mark.parametrize("name", suite_names())
def test_arms_differ_in_nothing_but_feedback(name: str) -> None:
    """All conditions of a suite share the rest; a normalisation of its own belongs to no arm here."""
    suite = load_suite(name)
    assert {"reference", "critique"} <= set(suite.condition)
    assert any(resolve(suite, arm).plugin == "grpo" for arm in suite.condition)
    for arm in suite.condition:
        config = resolve(suite, arm).config
        assert config.normalisation is None
        assert config.rollouts == "all" or arm.endswith(f"_{config.rollouts}_only")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    kinds: set[Kind] = set(ARCHITECTURE.values())
    return {
        kind: tiny_model(tmp_path_factory.mktemp(kind), kind, max_length=8192) for kind in kinds
    }


@pytest.fixture(scope="module", autouse=True)
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with local_tasks(tmp_path_factory.mktemp("tasks")):
        yield


def shrunk(name: str, folders: dict[Kind, Path]) -> Suite:
    own = load_suite(name)
    folder = folders[ARCHITECTURE[name]]
    changes = [*SMALL, f'model="{folder}"']
    for arm, table in own.condition.items():
        changes += [f"condition.{arm}.group_size=2"] if "group_size" in table else []
        changes += [f"condition.{arm}.problems_per_update=2"] if arm.startswith("grpo") else []
    if own.critic.name == "model":
        changes += [*MODEL_CRITIC, f'critic.options.model="{folder}"']
    if own.task == "openmathreasoning":
        changes += LOCAL
    if own.warmup is not None:
        changes += ["warmup.updates=1", "warmup.problems_per_update=2"]
    return load_suite(name, changes)


@pytest.mark.parametrize(("name", "arm"), model_critics())
def test_a_critics_engine_has_room_for_its_prompts(
    name: str, arm: str, folders: dict[Kind, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the engine and the cap that ship; of the model only what Qwen3 and SmolLM2 read is real.

    Nothing is started: an engine tells its room without.
    """
    own = load_suite(name)
    kind = ARCHITECTURE[name]
    read = {"qwen3": 40960, "smollm2": 8192}[kind]
    monkeypatch.setattr(models.Model, "max_length", read)
    changes = [f'model="{folders[kind]}"', f'critic.options.model="{folders[kind]}"']
    suite = load_suite(name, changes)
    named = assembly.critic_of(suite, resolve(suite, arm))
    made = assembly.critic(suite, named)
    assert isinstance(made, ModelCritic)
    with closing(made):
        engine = made._open()
        assert engine.max_length - made._cap(engine) >= SHORTEST_ROOM
        assert named.options.get("engine") == own.critic.options.get("engine")


def trained_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    (file,) = [p for p in checkpoint.glob("*.safetensors") if "optimizer" not in p.name]
    return load_file(file)


@pytest.mark.parametrize(("name", "arm"), arms())
def test_every_arm_of_every_suite_makes_an_update(
    name: str, arm: str, folders: dict[Kind, Path], tmp_path: Path
) -> None:
    """The answers of a random model are all wrong, so the arms that need a right one stay still."""
    suite = warmed(shrunk(name, folders), tmp_path, lambda update, loss: None)
    rows: list[Row] = []
    run = train(suite, arm, 0, tmp_path / "run", lambda _, log: rows.append(log))
    assert len(rows) == 2
    (checkpoint,) = RunDir(run.root).saved_checkpoints()
    taught = arm not in STILL or (name, arm) in BY_NAME
    norm = rows[1]["train/gradient_norm"]
    assert isinstance(norm, float)
    assert norm < 1e-5 if arm == FREE else (norm != 0) == taught
    if suite.lora is not None:
        lora_b = [w for n, w in trained_weights(checkpoint).items() if "lora_B" in n]
        assert len(lora_b) == 2 * len(suite.lora.targets)  # of two layers
        assert any(bool(w.any()) for w in lora_b) == taught
    assert models.open_model(str(checkpoint)).end_ids
    dropped = {row["dropped"] for row in read_rows(run.feedback)}
    assert (dropped <= {None}) == (taught or not resolve(suite, arm).config.teaches or not dropped)
