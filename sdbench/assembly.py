"""Puts plugins together as a suite configures them; each plugin checks its own options.

Training and analysis need the same engine, critic, loss and prompts; this is the one place that
knows how a suite's tables become objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from sdbench import models, plugins, prompts
from sdbench.conditions.base import Arm, Surroundings
from sdbench.config import Frozen, Suite, validate
from sdbench.critics.base import Critic

if TYPE_CHECKING:
    from types import ModuleType

    from sdbench.engines.base import Engine
    from sdbench.losses.base import Loss
    from sdbench.models import Model
    from sdbench.records import Problem


def engine(suite: Suite, model: Model) -> Engine:
    """The suite's engine around a loaded model.

    Raises:
        ConfigError: no such engine, or an option it does not have.
    """
    module = plugins.load(plugins.Kind.ENGINE, suite.engine.name)
    return cast(
        "Engine", module.build(_options(module, suite.engine.options, suite, "engine"), model)
    )


def untrained_engine(suite: Suite) -> Engine:
    """The suite's engine around the suite's untrained model."""
    return engine(suite, models.load(suite.model, suite.dtype))


def loss(suite: Suite, arm: Arm) -> Loss:
    """The loss that an arm trains with.

    Raises:
        ConfigError: no such loss, or an option it does not have.
    """
    name = arm.config.loss
    module = plugins.load(plugins.Kind.LOSS, name)
    return cast(
        "Loss", module.build(_options(module, suite.loss.get(name, {}), suite, f"loss.{name}"))
    )


def surroundings(suite: Suite, model: Model) -> Surroundings:
    """The suite's critic, and its teacher prompts in this model's tokens.

    Raises:
        ConfigError: no such critic, or an option it does not have.
    """
    module = plugins.load(plugins.Kind.CRITIC, suite.critic.name)
    critic = cast(Critic, module.build(_options(module, suite.critic.options, suite, "critic")))

    def encode_teacher(
        kind: prompts.ContextKind, problem: Problem, context: str
    ) -> tuple[int, ...]:
        return prompts.teacher(model.tokenizer, suite.prompts, kind, problem.prompt, context)

    return Surroundings(critic, encode_teacher)


def _options(module: ModuleType, options: Mapping[str, object], suite: Suite, table: str) -> Frozen:
    return validate(
        cast(type[Frozen], module.Config), dict(options), f"suite {suite.name}: [{table}]"
    )
