"""Pretraining: the same recipe gives the same weights, and the shipped ones have their recipe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from sdbench import models
from sdbench.models import Model
from sdbench.organism import WEIGHTS
from sdbench.organism.pretrain import Recipe, new_model, pretrain

SMALL = Recipe(updates=3, tokens_per_update=512, warmup_updates=2, threads=1)


def weights(folder: Path, recipe: Recipe) -> bytes:
    pretrain(folder, recipe)
    return (folder / "model.safetensors").read_bytes()


def test_the_same_recipe_gives_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    first = weights(tmp_path / "first", SMALL)
    assert weights(tmp_path / "again", SMALL) == first
    assert weights(tmp_path / "other", dataclasses.replace(SMALL, seed=2)) != first


def test_what_was_pretrained_loads_with_its_recipe(tmp_path: Path) -> None:
    """Called once an update with its number; the first loss is near log 64, that of a guess."""
    seen: list[tuple[int, float]] = []
    pretrain(tmp_path, SMALL, lambda update, loss: seen.append((update, loss)))
    assert [update for update, _ in seen] == [1, 2, 3]
    assert seen[0][1] == pytest.approx(4.16, abs=0.3)
    assert seen[-1][1] < seen[0][1]
    assert json.loads((tmp_path / "recipe.json").read_text()) == dataclasses.asdict(SMALL)
    model = models.load(str(tmp_path))
    assert model.end_ids == (2,)
    assert model.tokenizer.decode([30, 31]) == models.load("organism").tokenizer.decode([30, 31])


def test_the_shipped_weights_were_made_by_the_default_recipe(organism: Model) -> None:
    recipe = json.loads((WEIGHTS / "recipe.json").read_text())
    assert recipe == dataclasses.asdict(Recipe())
    fresh = new_model(Recipe().seed)
    shipped = {name: p.shape for name, p in organism.network.named_parameters()}
    assert shipped == {name: p.shape for name, p in fresh.named_parameters()}
    # 64 x 96 embedding (tied); 4 layers of 4 x 96 x 128 + 3 x 96 x 256 + 2 x 96; last norm 96.
    assert sum(p.numel() for p in fresh.parameters()) == 6144 + 4 * (49152 + 73728 + 192) + 96


def test_initial_weights_are_decided_by_the_seed() -> None:
    first, again, other = (dict(new_model(seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("update", "share"),
    [
        (0, 1 / 40),  # warm-up: (0 + 1) / 40
        (19, 20 / 40),
        (39, 1.0),
        (800, 1.0),  # 0.4 of 2,000: the fall begins after this
        (1400, 0.5),  # (2,000 - 1,400) / (2,000 - 800)
        (1970, 30 / 1200),
        (1999, 0.02),  # 1 / 1,200 is below the final share
    ],
)
def test_learning_rate_share_by_hand(update: int, share: float) -> None:
    assert Recipe().learning_rate_share(update) == pytest.approx(share)
