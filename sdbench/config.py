"""A suite: one TOML file that fixes everything the conditions share.

In: `baselines/<name>.toml` or any TOML file, which may say `extends = "<another suite>"` and then
holds only what it changes or adds; and `a.b=value` overrides. Out: a frozen `Suite`; an
unknown key is refused by name. Tables of plugins (`[condition.x]`, `[loss.x]`, options of engine and
critic) are checked by the plugin they configure, when the run is prepared and before it starts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from sdbench.errors import ConfigError
from sdbench.plugins import unknown
from sdbench.rundir import JsonValue, Row

DEFAULT_SUITE = "tiny"

ModelT = TypeVar("ModelT", bound=BaseModel)
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Normalisation = Literal["token", "sequence", "constant"]
Temperature = Annotated[float, Field(ge=0, le=10)]


class Frozen(BaseModel):
    """Base of every configuration: immutable, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Data(Frozen):
    """How many problems of each split; `seed` of the order lies in the run.

    Attributes:
        train_problems: The first so many are trained on.
        validation_problems: The first so many select a checkpoint.
        test_problems: The first so many are reported on.
        split: A file of `sdbench data split`, from the current folder, that says which problems each
            split has; None for the task's own splits.
    """

    train_problems: Positive
    validation_problems: Positive
    test_problems: Positive
    split: str | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out a split file that is not there, so that such a suite is written as ever."""
        row = cast("dict[str, object]", dump(self))
        return {name: value for name, value in row.items() if value is not None}


class SamplingConfig(Frozen):
    """How rollouts are drawn.

    Attributes:
        temperature: 1.0 is the model's own distribution.
        max_tokens: Token cap of a completion.
    """

    temperature: Temperature
    max_tokens: Positive


class Thinking(Frozen):
    """Whether each role may think before it writes, through the chat template's `enable_thinking`.

    None leaves it to the template. A student that does not think and a teacher that does read
    different prompts, but the very same completion tokens.
    """

    student: bool | None = None
    teacher: bool | None = None
    critic: bool | None = None
    evaluation: bool | None = None


class LoRA(Frozen):
    """Trains an adapter of low rank instead of the weights; needs the package peft.

    Attributes:
        rank: Of both factors.
        alpha: The product is scaled by alpha / rank.
        dropout: On the adapter's input; 0 keeps the policy that is trained the one that sampled.
        targets: Names of the linear layers that get one.
    """

    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[str] = Field(min_length=1)


class Teacher(Frozen):
    """Which weights the teacher has.

    Attributes:
        kind: `initial` keeps the untrained policy's, as the study did; `live` has the policy's own;
            `ema` their exponential moving average; `refresh` takes them over every so often.
        decay: Of the moving average, an update.
        every: Updates between two refreshes.
    """

    kind: Literal["initial", "live", "ema", "refresh"] = "initial"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    every: Positive = 10


class WarmUp(Frozen):
    """Supervised updates on tagged worked solutions, before any feedback, shared by all conditions.

    Attributes:
        updates: Optimiser updates.
        problems_per_update: Worked solutions an update, from the end of the training set; the
            conditions draw from the rest of it.
        learning_rate: Peak of AdamW's; it rises over a tenth of the updates and falls to zero.
        seed: Of the order.
    """

    updates: Positive
    problems_per_update: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    seed: Count = 0


class PluginConfig(Frozen):
    """A plugin by name, with options that the plugin checks."""

    name: str
    options: dict[str, object] = Field(default_factory=dict)


class Train(Frozen):
    """The optimiser and its schedule, the same for every condition.

    Attributes:
        updates: Optimiser updates.
        save_every: Updates between checkpoints; the last update always saves.
        keep_last: So many newest checkpoints are kept; None keeps all.
        keep_best: So many more are kept, those whose rollouts since the one before scored best.
        problems_per_update: Problems drawn for one update unless the condition says otherwise.
        learning_rate: Peak of AdamW's learning rate.
        warmup_updates: Linear rise to the peak.
        schedule: What follows the rise: a linear fall to zero, or the peak to the end.
        betas: AdamW's decay rates.
        weight_decay: AdamW's weight decay.
        max_gradient_norm: Gradients with a larger global norm are scaled down to it.
        normalisation: How token losses become one: their mean over all tokens of the update, the
            mean over rollouts of each rollout's mean, or their sum over rollouts times
            `sampling.max_tokens`, a constant.
        passes: Optimiser steps on the rollouts of one update; ratios are then taken to the policy
            before the first.
        skip_tokens: So many tokens at the start of each completion are not trained on.
        importance_cap: Each token's loss is weighted by the ratio of its probability under the
            policy to that when it was drawn, at most this; None weights all alike.
        anchor_weight: Weight of KL(policy || initial policy), estimated at the sampled tokens.
        micro_batch_rollouts: Rollouts in one forward and backward pass; changes memory only.
        chunk_logits: Most logits, tokens times vocabulary, that are held at once; memory and speed
            only. The default makes tensors of 64 MiB, which suited a CPU best; a GPU wants more.
        gradient_checkpointing: Computes activations twice instead of holding them; memory only.
        compile: Whether torch compiles the network.
        overlap: Draws the next update's rollouts during this one, so from weights one update old.
        trackers: Where accelerate sends the metrics besides train.jsonl, such as wandb or trackio.
        threads: CPU threads, 0 for torch's own choice; fixed so that a resumed run is exact.
    """

    updates: Positive
    save_every: Positive
    keep_last: Positive | None = None
    keep_best: Count = 0
    problems_per_update: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_updates: Count
    schedule: Literal["linear", "constant"] = "linear"
    betas: list[float] = Field(min_length=2, max_length=2)
    weight_decay: Annotated[float, Field(ge=0)]
    max_gradient_norm: Annotated[float, Field(gt=0)]
    normalisation: Normalisation = "token"
    passes: Positive = 1
    skip_tokens: Count = 0
    importance_cap: Annotated[float, Field(ge=1)] | None = 2.0
    anchor_weight: Annotated[float, Field(ge=0)] = 0.0
    micro_batch_rollouts: Positive
    chunk_logits: Positive = 2**24
    gradient_checkpointing: bool = False
    compile: bool = False
    overlap: bool = False
    trackers: list[str] = Field(default_factory=lambda: ["tensorboard"])
    threads: Count


class Evaluation(Frozen):
    """How checkpoints are sampled.

    Attributes:
        k: Samples a test problem.
        validation_k: Samples a validation problem, for selecting a checkpoint.
        temperature: Of evaluation samples.
        max_tokens: Token cap of an evaluation sample.
        seed: Of evaluation samples; the same for every checkpoint and condition.
        selection: How the reported checkpoint is chosen: on the validation split, or, for a task
            that has none, by cross-fitting on halves of the test problems.
    """

    k: Positive
    validation_k: Positive
    temperature: Temperature
    max_tokens: Positive
    seed: Count
    selection: Literal["validation", "cross-fit"] = "validation"


class Analysis(Frozen):
    """Per-token advantages on common traces.

    Attributes:
        traces: Rollouts of the untrained model on validation problems, one each at most.
        examples: How many of them the report shows.
    """

    traces: Positive
    examples: Positive


class Suite(Frozen):
    """Everything a run needs but the condition's name and the seed."""

    name: str = ""
    title: str
    model: str
    task: str
    prompts: Literal["organism", "steps"]
    dtype: Literal["float32", "bfloat16"] = "float32"
    thinking: Thinking = Thinking()
    lora: LoRA | None = None
    teacher: Teacher = Teacher()
    warmup: WarmUp | None = None
    data: Data
    sampling: SamplingConfig
    engine: PluginConfig
    critic: PluginConfig
    train: Train
    evaluation: Evaluation
    analysis: Analysis
    loss: dict[str, dict[str, object]] = Field(default_factory=dict)
    condition: dict[str, dict[str, object]] = Field(default_factory=dict)


def warmup_problems(suite: Suite) -> int:
    """So many problems at the end of the training set belong to the warm-up."""
    warmup = suite.warmup
    return 0 if warmup is None else warmup.updates * warmup.problems_per_update


def project_folder(name: Literal["tasks", "baselines"]) -> Path:
    """Where `tasks/` or `baselines/` lies: inside an installed wheel, else beside the package."""
    package = Path(__file__).parent
    inside = package / "_project" / name
    return inside if inside.is_dir() else package.parent / name


def suite_names() -> list[str]:
    """Names of the suites that ship."""
    return sorted(path.stem for path in project_folder("baselines").glob("*.toml"))


def load_suite(name: str = DEFAULT_SUITE, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite by name or path, with what it extends, and applies overrides.

    Args:
        name: A suite that ships, or the path of a TOML file.
        overrides: `a.b=value`, the value as in TOML; a bare word is a string.

    Raises:
        ConfigError: no such suite, one that extends itself, broken TOML, unknown key or a value out
            of range.
    """
    path = _path_of(name)
    table = _table(path)
    for override in overrides:
        apply_override(table, override)
    suite = validate(Suite, table, str(path))
    return suite.model_copy(update={"name": suite.name or path.stem})


def _path_of(name: str, beside: Path | None = None) -> Path:
    """Where a suite lies; a relative path in a suite that extends it starts beside that one."""
    if not name.endswith(".toml"):
        path = project_folder("baselines") / f"{name}.toml"
        if not path.is_file():
            raise unknown("suite", name, suite_names())
        return path
    path = Path(name) if beside is None else beside.parent / name
    if not path.is_file():
        raise ConfigError(f"no such suite file: {path}")
    return path


def _table(path: Path, extended_by: tuple[Path, ...] = ()) -> Row:
    """A suite's tables over those of the suite that it extends."""
    resolved = path.resolve()
    if resolved in extended_by:
        raise ConfigError(f"suite {path} extends itself")
    try:
        table = cast(Row, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    extends = table.pop("extends", None)
    if extends is None:
        return table
    below = _table(_path_of(str(extends), path), (*extended_by, resolved))
    return _over(below, table)


def _over(below: Row, above: Row) -> Row:
    """Tables merged key by key; where both hold a value, the one above.

    Where the one above names another plugin, the options below are not that plugin's, and go.
    """
    if _is_plugin(below) and _is_plugin(above) and below["name"] != above["name"]:
        return above
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _is_plugin(table: Row) -> bool:
    """Whether a table is that of a `PluginConfig`; a suite's own `name` stands among other keys."""
    return "name" in table and table.keys() <= PluginConfig.model_fields.keys()


def validate(model: type[ModelT], table: object, place: str) -> ModelT:
    """Checks a table against a configuration; the first fault becomes one line.

    Raises:
        ConfigError: names the key, the place, what was found and what is allowed.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise _first_fault(model, error, place) from error


def listed(names: str | None) -> list[str]:
    """The names of a list that is separated by commas, blanks or none beside them."""
    return [name.strip() for name in names.split(",")] if names else []


def apply_override(table: Row, override: str, option: str = "--set") -> None:
    """Sets a value in a table.

    Args:
        table: Changed in place.
        override: `a.b=value`, the value as in TOML; a bare word is a string.
        option: What the override was given with, for messages.

    Raises:
        ConfigError: it is no such text, or goes through a value that is no table.
    """
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(
            f"cannot read {option} {override!r}; allowed: key=value", hint="train.updates=20"
        )
    try:
        value = cast(JsonValue, tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{option} {override!r}: {part!r} is a value, not a table")
        table = inner
    table[parts[-1]] = value


def _first_fault(model: type[BaseModel], error: ValidationError, place: str) -> ConfigError:
    # A misspelt key is both unknown and missing; its spelling is what the user needs to hear.
    fault = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return unknown(f"key in {place}", key, _keys(model, fault["loc"][:-1]))
    if fault["type"] == "missing":
        return ConfigError(f"{place}: the key {key!r} is missing")
    return ConfigError(f"{place}: {key} = {fault['input']!r}: {fault['msg'].lower()}")


def _keys(model: type[BaseModel], table: tuple[int | str, ...]) -> list[str]:
    """The keys allowed in a nested table, with its name in front."""
    for part in table:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return sorted(".".join([*map(str, table), name]) for name in model.model_fields)
