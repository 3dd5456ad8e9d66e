"""Puts plugins together as a suite configures them; each plugin checks its own options.

Training and analysis need the same engine, critic, loss and prompts; this is the one place that
knows how a suite's tables become objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sdbench import models, plugins, prompts
from sdbench.conditions.base import Arm, Surroundings
from sdbench.config import Frozen, PluginConfig, Suite, validate
from sdbench.critics._store import Stored
from sdbench.critics.base import Critic, CriticSurroundings
from sdbench.critics.model import SOLVER
from sdbench.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from sdbench.engines.base import Engine
    from sdbench.losses.base import Loss
    from sdbench.models import Model
    from sdbench.records import Problem

AUTO = "auto"
TINY_PARAMETERS = 20_000_000


def engine(suite: Suite, model: Model) -> Engine:
    """The suite's engine around a loaded model.

    Raises:
        ConfigError: no such engine, or an option it does not have.
    """
    module = plugins.load(plugins.Kind.ENGINE, suite.engine.name)
    return cast(
        "Engine", module.build(_options(module, suite.engine.options, suite, "engine"), model)
    )


def engine_name(name: str, model: str, dtype: models.Dtype = "float32") -> str:
    """The engine that a name stands for.

    Args:
        name: An engine's, or `auto`: vLLM where it is installed and the model has more weights than
            the tiny ones for which its start takes longer than their sampling, else hf.
        model: A model's name.
        dtype: Of its weights.

    Raises:
        ConfigError: no such engine.
        CheckpointError: `auto`, and there is no such model.
    """
    if name != AUTO:
        known = plugins.names(plugins.Kind.ENGINE)
        if name not in known:
            raise plugins.unknown("engine", name, [AUTO, *known])
        return name
    large = models.open_model(model, dtype).parameters > TINY_PARAMETERS
    return "vllm" if find_spec("vllm") is not None and large else "hf"


def check_engine(engine: PluginConfig) -> None:
    """Refuses options that an engine does not have, before anything is sampled.

    Raises:
        ConfigError: names the option.
    """
    module = plugins.load(plugins.Kind.ENGINE, engine.name)
    validate(cast(type[Frozen], module.Config), engine.options, f"[engine] {engine.name}")


def untrained_engine(suite: Suite) -> Engine:
    """The suite's engine around the suite's untrained model."""
    return engine(suite, models.load(suite.model, suite.dtype))


def loss(suite: Suite, arm: Arm) -> Loss:
    """The loss that an arm trains with.

    Raises:
        ConfigError: no such loss, an option it does not have, one that would leave unread what the
            condition gives, or an anchor where nothing is drawn that could estimate it.
    """
    name = arm.config.loss
    module = plugins.load(plugins.Kind.LOSS, name)
    unread = sorted(arm.config.gives - module.READS)
    if unread:
        raise ConfigError(
            f"suite {suite.name}: the loss {name!r} does not read what [condition.{arm.name}] gives:"
            f" {', '.join(unread)}; allowed: {', '.join(_losses_for(arm))}"
        )
    if suite.train.anchor_weight and "demonstration" in arm.config.gives:
        raise ConfigError(
            f"suite {suite.name}: train.anchor_weight = {suite.train.anchor_weight} is estimated at"
            f" tokens that the policy drew, and [condition.{arm.name}] trains on others; allowed: 0"
        )
    options = {**suite.loss.get(name, {}), **arm.config.loss_options}
    return cast("Loss", module.build(_options(module, options, suite, f"loss.{name}")))


def critic(
    suite: Suite, named: PluginConfig, *, store: Path | None = None, run: str = ""
) -> Critic:
    """A critic of this suite's rollouts.

    Args:
        suite: The suite.
        named: The critic and its options, such as `suite.critic`.
        store: Folder in which critiques that cost something are kept and found; None for nowhere.
        run: Who buys them; see `critics._store`.

    Raises:
        ConfigError: no such critic, or an option it does not have.
    """
    module = plugins.load(plugins.Kind.CRITIC, named.name)
    options = _options(module, named.options, suite, "critic")
    around = CriticSurroundings(
        style=suite.prompts,
        thinking=suite.thinking.critic,
        model=suite.model,
        dtype=suite.dtype,
        engine=suite.engine,
    )
    built = cast(Critic, module.build(options, around))
    return built if store is None or built.identity is None else Stored(built, store, run)


def critic_of(suite: Suite, arm: Arm | None) -> PluginConfig:
    """The critic of an arm.

    Args:
        suite: The suite.
        arm: An arm; None for the suite's critic.

    Returns:
        The suite's, or the arm's own. If that is the same plugin, what it leaves unsaid is as the
        suite says; a nested table of its own, such as `audit`, takes the place of the suite's. But a
        suite's `dtype` was chosen for another model than the solver, which has one of its own.
    """
    own = None if arm is None else arm.config.critic
    if own is None:
        return suite.critic
    if own.name != suite.critic.name:
        return own
    inherited = dict(suite.critic.options)
    if own.options.get("model") == SOLVER:
        inherited.pop("dtype", None)
    return PluginConfig(name=own.name, options={**inherited, **own.options})


def _losses_for(arm: Arm) -> list[str]:
    names = plugins.names(plugins.Kind.LOSS)
    return [n for n in names if arm.config.gives <= plugins.load(plugins.Kind.LOSS, n).READS]


def surroundings(
    suite: Suite,
    model: Model,
    arm: Arm | None = None,
    *,
    store: Path | None = None,
    run: str = "",
) -> Surroundings:
    """A critic, and the suite's teacher prompts in this model's tokens.

    Args:
        suite: The suite.
        model: The solver.
        arm: Whose critic it is, as `critic_of` has it.
        store: Folder in which critiques that cost something are kept and found; None for nowhere.
        run: Who buys them; see `critics._store`.

    Raises:
        ConfigError: no such critic, or an option it does not have.
    """
    judge = critic(suite, critic_of(suite, arm), store=store, run=run)

    def encode_teacher(
        kind: prompts.ContextKind, problem: Problem, context: str
    ) -> tuple[int, ...]:
        return prompts.teacher(
            model.tokenizer,
            suite.prompts,
            kind,
            problem.prompt,
            context,
            suite.thinking.teacher,
        )

    return Surroundings(
        judge, encode_teacher, model.max_length, suite.prompts, model.encode_completion
    )


def _options(module: ModuleType, options: Mapping[str, object], suite: Suite, table: str) -> Frozen:
    return validate(
        cast(type[Frozen], module.Config), dict(options), f"suite {suite.name}: [{table}]"
    )
