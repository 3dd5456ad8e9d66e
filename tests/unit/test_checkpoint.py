"""Checkpoints: what they hold, who loads them, which are kept, and what a kill leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from training_fixture import ADAPTER, SEED, fresh_policy, make_items, objective, short, with_train

from sdbench import models, plugins
from sdbench.config import Suite, Teacher
from sdbench.errors import CheckpointError
from sdbench.losses.base import Loss
from sdbench.models import Model, completion_logits
from sdbench.organism import WEIGHTS
from sdbench.records import TeacherView
from sdbench.rundir import RunDir
from sdbench.train import checkpoint
from sdbench.train.batch import Item
from sdbench.train.checkpoint import TrainingState
from sdbench.train.ledger import Ledger
from sdbench.train.network import initial_network, open_network
from sdbench.train.policy import Policy

PROBE = [TeacherView((1, 34, 37, 26, 36), (2, 3, 4))]
CARD = "# a card\n"
STATE = TrainingState(Ledger(updates=3), 0.25)
EMA = Teacher(kind="ema", decay=0.5)


@pytest.fixture(scope="module")
def items(organism: Model) -> list[Item]:
    return make_items(organism, (4, 7))


def forward_kl() -> Loss:
    module = plugins.load(plugins.Kind.LOSS, "forward_kl")
    built: Loss = module.build(module.Config())
    return built


def trained(suite: Suite, items: list[Item], *updates: int) -> Policy:
    policy = fresh_policy(suite)
    return go_on(policy, suite, items, *updates)


def go_on(policy: Policy, suite: Suite, items: list[Item], *updates: int) -> Policy:
    for number in updates:
        policy.update(items, objective(suite, forward_kl(), number))
    return policy


def reopened(suite: Suite, folder: Path) -> Policy:
    policy = Policy(
        open_network(suite, SEED, folder), suite, Accelerator(), lambda: initial_network(suite)
    )
    assert checkpoint.restore(folder, policy) == STATE
    return policy


@torch.no_grad()
def logits_of(model: Model) -> torch.Tensor:
    return completion_logits(model.network.eval(), PROBE)


def with_lora(suite: Suite, **changes: object) -> Suite:
    return with_train(suite).model_copy(update={"lora": ADAPTER, **changes})


FULL = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_state.json",
}
ADAPTED = FULL - {"config.json", "generation_config.json", "model.safetensors"}
ADAPTED |= {"adapter_config.json", "adapter_model.safetensors"}


def test_a_checkpoint_is_a_model_folder_without_pickles(
    tiny: Suite, items: list[Item], tmp_path: Path
) -> None:
    suite = with_train(tiny)
    policy = trained(suite, items, 1)
    checkpoint.save(tmp_path / "c", policy, STATE, CARD, writes=True)
    assert {path.name for path in (tmp_path / "c").iterdir()} == FULL
    assert (tmp_path / "c" / "README.md").read_text() == CARD
    assert torch.equal(logits_of(models.load(str(tmp_path / "c"))), logits_of(policy.model))
    assert [path.name for path in tmp_path.iterdir()] == ["c"], "nothing lies beside it"


def test_an_adapters_checkpoint_is_laid_out_as_peft_does(
    tiny: Suite, items: list[Item], tmp_path: Path
) -> None:
    """Its card is the project's; it holds the adapter alone; transformers and peft load it."""
    from peft import AutoPeftModelForCausalLM

    suite = with_lora(tiny)
    policy = trained(suite, items, 1, 2)
    folder = tmp_path / "c"
    checkpoint.save(folder, policy, STATE, CARD, writes=True)
    assert {path.name for path in folder.iterdir()} == ADAPTED
    assert (folder / "README.md").read_text() == CARD
    names = set(load_file(folder / "adapter_model.safetensors"))
    assert len(names) == 4 * 2 * 2 and all("lora_" in name for name in names)
    expected = logits_of(policy.model)
    assert (expected - logits_of(models.load("organism"))).abs().max() > 1e-3
    torch.testing.assert_close(logits_of(models.load(str(folder))), expected)
    peft = AutoPeftModelForCausalLM.from_pretrained(str(folder)).eval()
    with torch.no_grad():
        torch.testing.assert_close(completion_logits(peft, PROBE), expected)


def test_the_same_adapter_is_described_the_same(tiny: Suite, tmp_path: Path) -> None:
    """Its fingerprint covers the description, in which peft writes a set in no order."""
    for lora in (ADAPTER, ADAPTER.model_copy(update={"targets": ADAPTER.targets[::-1]})):
        suite = tiny.model_copy(update={"lora": lora})
        checkpoint.save(tmp_path / lora.targets[0], fresh_policy(suite), STATE, CARD, writes=True)
    one, other = (json.loads((p / "adapter_config.json").read_text()) for p in tmp_path.iterdir())
    assert one == other
    assert one["target_modules"] == ["q_proj", "v_proj"]
    assert (one["r"], one["lora_alpha"], one["inference_mode"]) == (2, 4, True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the organism in the hub's cache at revision v2, under no other."""
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    stored = cache / "models--someone--solver"
    shutil.copytree(WEIGHTS, stored / "snapshots" / ("a" * 40))
    (stored / "refs").mkdir()
    (stored / "refs" / "v2").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return "someone/solver@v2"


@pytest.mark.parametrize("kind", ["organism", "folder", "hub"])
def test_an_adapter_finds_its_base_again(
    kind: str,
    tiny: Suite,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the name that the suite gives it: the one that ships, a folder here, a hub id's revision."""
    monkeypatch.chdir(tmp_path)
    name = "organism"
    written: tuple[str, str | None] = (str(WEIGHTS), None)
    if kind == "folder":
        shutil.copytree(WEIGHTS, "solver")
        name, written = "./solver", (str(tmp_path / "solver"), None)
    elif kind == "hub":
        name, written = request.getfixturevalue("hub"), ("someone/solver", "v2")
    suite = with_lora(tiny, model=name)
    policy = fresh_policy(suite)
    checkpoint.save(tmp_path / "c", policy, STATE, CARD, writes=True)
    described = json.loads((tmp_path / "c" / "adapter_config.json").read_text())
    assert (described["base_model_name_or_path"], described["revision"]) == written
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = models.load(str(tmp_path / "c"))
    assert found.source == (name if kind == "hub" else written[0])
    assert torch.equal(logits_of(found), logits_of(policy.model))
    assert found.end_ids == (2,)


@pytest.mark.parametrize("lora", [None, ADAPTER])
@pytest.mark.parametrize("teacher", [Teacher(), EMA, Teacher(kind="refresh", every=2)])
def test_a_policy_goes_on_from_its_checkpoint_bit_for_bit(
    tiny: Suite, items: list[Item], tmp_path: Path, lora: object, teacher: Teacher
) -> None:
    suite = with_train(tiny).model_copy(update={"lora": lora, "teacher": teacher})
    policy = trained(suite, items, 1, 2, 3)
    checkpoint.save(tmp_path / "c", policy, STATE, CARD, writes=True)
    holds = (tmp_path / "c" / "optimizer.teacher.safetensors").exists()
    assert holds == (teacher.kind != "initial")
    again = reopened(suite, tmp_path / "c")
    one, other = (go_on(p, suite, items, 4, 5) for p in (policy, again))
    weights = dict(other.model.network.named_parameters())
    for name, weight in one.model.network.named_parameters():
        assert torch.equal(weight, weights[name]), name
    for name, tensor in one.teacher.state().items():
        assert torch.equal(tensor, other.teacher.state()[name]), name


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    "file",
    [
        "adapter_model.safetensors",
        "adapter_config.json",
        "optimizer.safetensors",
        "optimizer.teacher.safetensors",
        "training_state.json",
    ],
)
@pytest.mark.parametrize("damage", [shorten, Path.unlink])
def test_a_damaged_adapter_is_refused_by_name(
    tiny: Suite, items: list[Item], tmp_path: Path, file: str, damage: object
) -> None:
    suite = with_lora(tiny, teacher=EMA)
    folder = tmp_path / "000003"
    checkpoint.save(folder, trained(suite, items, 1), STATE, CARD, writes=True)
    assert callable(damage)
    damage(folder / file)
    with pytest.raises(CheckpointError, match="000003"):
        reopened(suite, folder)


def test_what_fails_while_it_is_written_is_never_seen(
    tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the card is written; the next attempt clears the rest away."""
    policy = fresh_policy(tiny)
    run = RunDir(tmp_path)

    def full(path: Path, text: str) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr(checkpoint, "write_text", full)
        checkpoint.save(run.checkpoint(3), policy, STATE, CARD, writes=True)
    assert run.saved_checkpoints() == []
    checkpoint.save(run.checkpoint(3), policy, STATE, CARD, writes=True)
    assert [path.name for path in run.checkpoints.iterdir()] == ["000003"]
    with pytest.raises(CheckpointError, match="never overwritten"):
        checkpoint.save(run.checkpoint(3), policy, STATE, CARD, writes=True)


def test_a_process_that_does_not_write_writes_nothing(tiny: Suite, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", fresh_policy(tiny), STATE, CARD, writes=False)
    assert list(tmp_path.iterdir()) == []


REWARDS = {2: 0.5, 4: 0.9, 6: 0.1, 8: 0.9, 10: 0.3}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Five checkpoints two updates apart, of which two have the best reward."""
    made = RunDir(tmp_path)
    for update, reward in REWARDS.items():
        folder = made.checkpoint(update)
        folder.mkdir(parents=True)
        (folder / "training_state.json").write_text(json.dumps({"reward": reward}))
    return made


def kept(run: RunDir) -> list[int]:
    return [int(path.name) for path in run.saved_checkpoints()]


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "expected"),
    [
        ("null", 0, [2, 4, 6, 8, 10]),
        (1, 0, [10]),
        (2, 0, [8, 10]),
        (1, 1, [8, 10]),  # of equal rewards the later one
        (1, 2, [4, 8, 10]),
        (2, 1, [4, 8, 10]),
        (1, 5, [2, 4, 6, 8, 10]),
        (1, 9, [2, 4, 6, 8, 10]),
        (9, 0, [2, 4, 6, 8, 10]),
    ],
)
def test_which_checkpoints_are_kept(
    run: RunDir, keep_last: object, keep_best: int, expected: list[int]
) -> None:
    config = short(f"train.keep_best={keep_best}", "train.updates=10").train
    last = None if keep_last == "null" else keep_last
    config = config.model_copy(update={"keep_last": last})
    for _ in range(2):  # the second time there is nothing to do
        checkpoint.prune(run, config)
        assert kept(run) == expected


def test_a_stop_between_two_checkpoints_leaves_none_behind(run: RunDir) -> None:
    """Saved every 4 updates, 2 and 6 stand because of a stop; 10 is the newest and stays."""
    checkpoint.prune(run, short("train.save_every=4").train)
    assert kept(run) == [4, 8, 10]


def test_a_kill_amid_pruning_leaves_no_half_checkpoint(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first file of a folder; the next pruning clears away the rest."""
    config = short("train.keep_last=1").train
    shutil.copytree(run.checkpoint(2), run.checkpoints / ".000012.part")
    (run.checkpoints / ".notes").write_text("not ours")

    class Killed(BaseException):
        pass

    whole = shutil.rmtree

    def killed(folder: Path) -> None:
        if folder.suffix == ".part":
            whole(folder)
            return
        (folder / "training_state.json").unlink()
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(shutil, "rmtree", killed)
        checkpoint.prune(run, config)
    assert all((p / "training_state.json").exists() for p in run.saved_checkpoints())
    checkpoint.prune(run, config)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [".notes", "000010"]


def test_the_card_says_what_it_is() -> None:
    card = checkpoint.model_card(
        "t, critique, seed 0, update 3",
        "someone/solver",
        "peft",
        "sdbench train --seed 0",
        {"update": 3, "train/loss": 0.123456789, "warnings": []},
    )
    lines = card.splitlines()
    assert lines[:5] == [
        "---",
        "base_model: someone/solver",
        "library_name: peft",
        "tags: [sdbench, self-distillation]",
        "---",
    ]
    assert "    sdbench train --seed 0" in lines
    assert "| train/loss | 0.123457 |" in lines and "| update | 3 |" in lines
