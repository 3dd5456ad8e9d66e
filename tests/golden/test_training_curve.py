"""Three updates of every condition against the numbers they gave when this was last agreed on.

`SDBENCH_GOLDEN=1` writes the file anew; do so only in a commit that says why the numbers moved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from training_fixture import ignore, log_of

from sdbench.config import load_suite
from sdbench.train.loop import train

GOLDEN = Path(__file__).parent / "training_curve.json"
ARMS = ("critique", "grpo", "reference")
SUITE = load_suite(
    "tiny",
    [
        "data.train_problems=24",
        "train.updates=3",
        "train.save_every=3",
        "train.problems_per_update=6",
        "train.warmup_updates=1",
        "condition.grpo.group_size=4",
    ],
)


@pytest.mark.parametrize("arm", ARMS)
def test_the_training_curve_is_the_one_agreed_on(arm: str, tmp_path: Path) -> None:
    run = train(SUITE, arm, 0, tmp_path / arm, ignore)
    found = log_of(run)
    assert [row.pop("warnings") for row in found] == [[]] * 3
    held = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("SDBENCH_GOLDEN") == "1":
        held[arm] = found
        GOLDEN.write_text(json.dumps(dict(sorted(held.items())), indent=1) + "\n")
    assert len(found) == len(held[arm]) == 3
    for row, expected in zip(found, held[arm], strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
