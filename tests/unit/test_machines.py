"""Machines of other kinds than those that run the tests, as far as their differences are seen to."""

from __future__ import annotations

import resource
import sys
from types import SimpleNamespace

import accelerate
import pytest
import torch

from sdbench.train import loop, processes


@pytest.mark.parametrize(
    ("accelerator", "told", "cpu"),
    [("cuda", "", False), ("mps", "", True), (None, "", True), ("cuda", "true", True)],
)
def test_training_is_on_the_cpu_where_the_accelerator_has_no_float64(
    monkeypatch: pytest.MonkeyPatch, accelerator: str | None, told: str, *, cpu: bool
) -> None:
    asked: list[bool] = []

    def state(*, cpu: bool, timeout: object) -> SimpleNamespace:
        asked.append(cpu)
        return SimpleNamespace(num_processes=1)

    device = None if accelerator is None else torch.device(accelerator)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: device)
    monkeypatch.setattr(accelerate, "PartialState", state)
    monkeypatch.setenv("ACCELERATE_USE_CPU", told or "false")
    monkeypatch.setenv("WORLD_SIZE", "1")
    processes.open_state()
    assert asked == [cpu]


@pytest.mark.parametrize(("platform", "counted"), [("linux", 3 * 2**20), ("darwin", 3 * 2**30)])
def test_peak_memory_is_in_gib_whatever_the_system_counts_in(
    monkeypatch: pytest.MonkeyPatch, platform: str, counted: int
) -> None:
    """Linux counts KiB, macOS bytes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=counted))
    assert loop._peak_gib() == 3
