"""`critique` with the solver as its own critic: the untrained model, frozen, reads its own rollouts.

What `critique` gains over this, it gains from a critic that knows more than the solver. The critic is
`model` with the suite's own model; where the suite's critic is `model` too, all other options are its.
Critiques that cannot be read, misquote or leak are dropped and counted, but not those with a wrong
answer: that gate knows the right one, and would leave hardly any rollouts but right ones.

Source: a control of this project for the claim of 2606.11173, whose critic is far larger than its
solver. 2601.20802 (SDPO) found self-distillation weak below 1.5 billion parameters.
"""

from __future__ import annotations

from sdbench.conditions import critique
from sdbench.conditions.base import Condition, Surroundings
from sdbench.config import PluginConfig


class Config(critique.Config):
    """As `critique`, but for the critic."""

    critic: PluginConfig | None = PluginConfig(
        name="model", options={"model": "solver", "audit": {"refuse": ["quoted", "leak"]}}
    )


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""
    return critique.build(config, surroundings)
