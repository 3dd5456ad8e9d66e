"""`critique` with the solver as its own critic: the untrained model, frozen, reads its own rollouts.

What `critique` gains over this, it gains from a critic that knows more than the solver. The critic is
`model` with the suite's own model and engine; it sees what the suite's critic would see. Its critiques
often cannot be used, and then their rollouts are dropped and counted.

Source: a control of this project for the claim of 2606.11173, whose critic is far larger than its
solver. 2601.20802 (SDPO) found self-distillation weak below 1.5 billion parameters.
"""

from __future__ import annotations

from sdbench.conditions import critique
from sdbench.conditions.base import Condition, Surroundings
from sdbench.config import PluginConfig


class Config(critique.Config):
    """As `critique`, but for the critic."""

    critic: PluginConfig | None = PluginConfig(name="model", options={"model": "solver"})


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return critique.build(config, surroundings)
