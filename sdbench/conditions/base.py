"""What every condition is: the groups of one update in, feedback on their rollouts out.

A condition decides the feedback and nothing else. It gives each rollout an advantage, a teacher's
view, or both; batch, losses and loop never ask which condition it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Protocol, cast

from pydantic import Field

from sdbench import plugins
from sdbench.config import Frozen, Suite, validate
from sdbench.critics.base import Critic
from sdbench.prompts import ContextKind
from sdbench.records import Attempt, Feedback, Problem, Rollout, TeacherView

EncodeTeacher = Callable[[ContextKind, Problem, str], tuple[int, ...]]


class ConditionConfig(Frozen):
    """What a suite may set in `[condition.<name>]`; a condition's own `Config` adds to it.

    Attributes:
        uses: The plugin, if the table's name is another: two arms of one condition.
        loss: Name of the loss plugin.
        group_size: Rollouts a problem.
        problems_per_update: None takes the suite's `train.problems_per_update`.
    """

    uses: str | None = None
    loss: str
    group_size: Annotated[int, Field(gt=0)]
    problems_per_update: Annotated[int, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The attempts of one update at one problem."""

    problem: Problem
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a condition may use.

    Attributes:
        critic: The suite's frozen critic.
        encode_teacher: Token ids of the teacher's prompt for a kind of context, a problem, a text.
    """

    critic: Critic
    encode_teacher: EncodeTeacher

    def view(self, kind: ContextKind, attempt: Attempt, context: str) -> TeacherView:
        """The teacher's view of a rollout: its prompt with the context, then the completion."""
        prompt_ids = self.encode_teacher(kind, attempt.problem, context)
        return append_completion(prompt_ids, attempt.rollout)


class Condition(Protocol):
    """Gives feedback."""

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """Feedback on the rollouts of one update.

        Returns:
            At most one feedback for each rollout, in any order; a rollout without one is not
            trained on, and counted.
        """
        ...


def append_completion(prompt_ids: tuple[int, ...], rollout: Rollout) -> TeacherView:
    """A view in which the completion follows the prompt; its tokens are never encoded again."""
    start = len(prompt_ids)
    end = start + len(rollout.completion_ids)
    return TeacherView(prompt_ids + rollout.completion_ids, tuple(range(start, end)))


@dataclass(frozen=True, slots=True)
class Arm:
    """A condition as one suite configures it.

    Attributes:
        name: The name of the arm: the suite's table, usually the plugin's name.
        plugin: The condition's module name.
        config: Its settings.
    """

    name: str
    plugin: str
    config: ConditionConfig

    def build(self, surroundings: Surroundings) -> Condition:
        """The condition, ready for feedback."""
        module = plugins.load(plugins.Kind.CONDITION, self.plugin)
        return cast(Condition, module.build(self.config, surroundings))


def names(suite: Suite) -> list[str]:
    """Arms that can be trained: the suite's own tables and every condition plugin."""
    return sorted({*suite.condition, *plugins.names(plugins.Kind.CONDITION)})


def resolve(suite: Suite, name: str) -> Arm:
    """The arm of this name.

    Raises:
        ConfigError: no such arm or plugin, or a key that the condition does not have.
    """
    if name not in names(suite):
        raise plugins.unknown("condition", name, names(suite))
    table: Mapping[str, object] = suite.condition.get(name, {})
    plugin = str(table.get("uses", name))
    module = plugins.load(plugins.Kind.CONDITION, plugin)
    config = validate(_config_of(module), dict(table), f"suite {suite.name}: [condition.{name}]")
    return Arm(name, plugin, config)


def _config_of(module: ModuleType) -> type[ConditionConfig]:
    return cast(type[ConditionConfig], module.Config)
