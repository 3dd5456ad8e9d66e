"""Loading a model: what is refused, and by which name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sdbench import models
from sdbench.errors import CheckpointError
from sdbench.models import Model
from sdbench.organism import WEIGHTS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "copy"))


def test_the_organism(organism: Model) -> None:
    assert organism.end_ids == (2,)
    assert organism.max_length == 512
    assert organism.source == str(WEIGHTS)
    assert not organism.network.training


def test_a_folder_loads_in_the_dtype_asked_for(copy: Path) -> None:
    assert models.load(str(copy), "bfloat16").network.dtype == torch.bfloat16


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "./none", "none", "a/b/c"):
        with pytest.raises(CheckpointError, match="no such folder"):
            models.load(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model: config.json is missing"):
        models.load(str(tmp_path))


def test_weights_cut_short_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot load a model from"):
        models.load(str(copy))


def test_missing_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot load a model from"):
        models.load(str(copy))


def test_the_fingerprint_is_that_of_the_weights_alone(copy: Path) -> None:
    whole = models.fingerprint(str(copy))
    assert whole == models.fingerprint(str(WEIGHTS))
    (copy / "optimizer.safetensors").write_bytes(b"state")
    (copy / "recipe.json").unlink()
    assert models.fingerprint(str(copy)) == whole
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert models.fingerprint(str(copy)) != whole
    assert models.fingerprint("owner/name") == "owner/name"
