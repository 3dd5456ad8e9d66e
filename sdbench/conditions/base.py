"""What every condition is: the groups of one update in, feedback on their rollouts out.

A condition decides the feedback and nothing else. It gives each rollout an advantage, a teacher's
view, or both; batch, losses and loop never ask which condition it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, ClassVar, Literal, Protocol, cast

from pydantic import Field

from sdbench import plugins
from sdbench.config import Frozen, Normalisation, PluginConfig, Suite, validate
from sdbench.critics.base import Critic
from sdbench.prompts import ContextKind, Style
from sdbench.records import (
    Attempt,
    Critique,
    Drop,
    Feedback,
    Given,
    Problem,
    Rollout,
    TeacherView,
)

EncodeTeacher = Callable[[ContextKind, Problem, str], tuple[int, ...]]
EncodeCompletion = Callable[[str], tuple[int, ...]]
Rollouts = Literal["all", "correct", "incorrect"]


class ConditionConfig(Frozen):
    """What a suite may set in `[condition.<name>]`; a condition's own `Config` adds to it.

    Attributes:
        uses: The plugin, if the table's name is another: two arms of one condition.
        loss: Name of the loss plugin.
        loss_options: Options of the loss for this arm, over those of `[loss.<name>]`.
        normalisation: None takes the suite's `train.normalisation`.
        group_size: Rollouts a problem.
        problems_per_update: None takes the suite's `train.problems_per_update`.
        rollouts: Trains on all of them, or only on those with a right or a wrong answer.
        critic: None takes the suite's.
    """

    gives: ClassVar[frozenset[Given]] = frozenset({"teacher"})
    """What the feedback holds; the loss must read all of it."""
    compares: ClassVar[bool] = False
    """Whether the feedback on a rollout depends on other rollouts of the update."""

    uses: str | None = None
    loss: str
    loss_options: dict[str, object] = Field(default_factory=dict)
    normalisation: Normalisation | None = None
    group_size: Annotated[int, Field(gt=0)]
    problems_per_update: Annotated[int, Field(gt=0)] | None = None
    rollouts: Rollouts = "all"
    critic: PluginConfig | None = None

    @property
    def teaches(self) -> bool:
        """Whether the feedback holds teacher's views."""
        return "teacher" in self.gives

    @property
    def contrasts(self) -> bool:
        """Whether each teacher's view comes with one that it is contrasted with."""
        return "against" in self.gives

    def trains_on(self, attempt: Attempt) -> bool:
        """Whether `rollouts` lets this one be trained on."""
        return self.rollouts == "all" or attempt.verdict.correct == (self.rollouts == "correct")


@dataclass(frozen=True, slots=True)
class Group:
    """The attempts of one update at one problem."""

    problem: Problem
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a condition may use.

    Attributes:
        critic: A frozen critic.
        encode_teacher: Token ids of the teacher's prompt for a kind of context, a problem, a text.
        max_length: Most tokens that the teacher reads, prompt and completion together.
        style: Of the suite's prompts.
        encode_completion: Token ids of a completion that the solver did not write.
    """

    critic: Critic
    encode_teacher: EncodeTeacher
    max_length: int
    style: Style
    encode_completion: EncodeCompletion

    def view(self, kind: ContextKind, attempt: Attempt, context: str) -> TeacherView | None:
        """The teacher's view of a rollout: its prompt with the context, then the completion.

        Returns:
            None if that is longer than the model reads: nothing is ever cut.
        """
        prompt_ids = self.encode_teacher(kind, attempt.problem, context)
        if len(prompt_ids) + len(attempt.rollout.completion_ids) > self.max_length:
            return None
        return append_completion(prompt_ids, attempt.rollout)

    def taught(
        self, kind: ContextKind, attempt: Attempt, context: str, critique: Critique | None = None
    ) -> Feedback:
        """Feedback by a teacher that reads this context, dropped where that is too long to read."""
        view = self.view(kind, attempt, context)
        dropped: Drop | None = "overlong" if view is None else None
        return Feedback(
            attempt.rollout.id, view=view, context=context, critique=critique, dropped=dropped
        )


def missing(attempt: Attempt, critique: Critique | None = None) -> Feedback:
    """Feedback without a view, since what its context is made of is missing."""
    return Feedback(attempt.rollout.id, critique=critique, dropped="missing")


class Condition(Protocol):
    """Gives feedback."""

    def feedback(self, groups: Sequence[Group]) -> list[Feedback]:
        """Feedback on the rollouts of one update.

        Returns:
            At most one feedback for each rollout, in any order; a rollout without one, or with one
            that was dropped, is not trained on, and counted.
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


def restricted(suite: Suite, name: str, rollouts: Literal["correct", "incorrect"]) -> Suite:
    """The suite with one more arm: this one, trained on right or on wrong rollouts alone.

    Args:
        suite: A suite.
        name: An arm.
        rollouts: Which rollouts are trained on.

    Returns:
        The suite; the arm is called `restricted_name(name, rollouts)`.

    Raises:
        ConfigError: no such arm.
    """
    arm = resolve(suite, name)
    table = {**suite.condition.get(name, {}), "uses": arm.plugin, "rollouts": rollouts}
    conditions = {**suite.condition, restricted_name(name, rollouts): table}
    return suite.model_copy(update={"condition": conditions})


def restricted_name(name: str, rollouts: Literal["correct", "incorrect"]) -> str:
    """What an arm is called that is trained on right or on wrong rollouts alone."""
    return f"{name}_{rollouts}_only"


def _config_of(module: ModuleType) -> type[ConditionConfig]:
    return cast(type[ConditionConfig], module.Config)
