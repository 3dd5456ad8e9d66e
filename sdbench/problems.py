"""Problems of a task, read through lm-eval's task definitions.

In: the name of a YAML in `tasks/` and a split, or a suite, which may name a split file. Out: `Problem`
records in the order of the data, and what a task is, read without its data. Only this module and the
evaluation harness import lm_eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, cast

from sdbench import split_file
from sdbench.config import Suite, project_folder
from sdbench.errors import ConfigError, DataError, SdbenchError
from sdbench.plugins import unknown
from sdbench.records import Problem
from sdbench.sources import hub_cache, packages

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

_SPLIT_KEYS = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
SPLITS = tuple(_SPLIT_KEYS)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a task is, as its definition says.

    Attributes:
        name: Name of the definition.
        description: One line.
        sizes: Problems of each split that exists.
        source: Where the problems come from: an address or a module.
        licence: Of the problems.
        revision: The data set's commit on the hub, None where there is none.
        available: `offline`, `needs <package>==<version>`, `hub: cached` or `hub: not downloaded`.
    """

    name: str
    description: str
    sizes: Mapping[str, int]
    source: str
    licence: str
    revision: str | None
    available: str


@dataclass(frozen=True, slots=True)
class Generation:
    """How a task's definition has answers sampled.

    Attributes:
        temperature: Of sampling.
        max_tokens: The longest completion.
    """

    temperature: float
    max_tokens: int


def names() -> list[str]:
    """Names of the tasks that ship."""
    return sorted(path.stem for path in project_folder("tasks").glob("[!_]*.yaml"))


def describe(task: str) -> TaskInfo:
    """What a task is, without loading its data.

    Raises:
        ConfigError: no such task.
    """
    metadata = cast(dict[str, object], _table(task)["metadata"])
    revision = metadata.get("revision")
    return TaskInfo(
        name=task,
        description=str(metadata["description"]),
        sizes=cast(dict[str, int], metadata["sizes"]),
        source=str(metadata["source"]),
        licence=str(metadata["licence"]),
        revision=None if revision is None else str(revision),
        available=_availability(metadata),
    )


def splits(task: str) -> list[str]:
    """The splits that a task has, of `train`, `validation` and `test`.

    Raises:
        ConfigError: no such task.
    """
    table = _table(task)
    return [split for split in SPLITS if _SPLIT_KEYS[split] in table]


def generation(task: str) -> Generation:
    """How answers are sampled, by the task's `generation_kwargs`.

    Raises:
        ConfigError: no such task.
    """
    settings = cast(dict[str, object], _table(task)["generation_kwargs"])
    return Generation(float(str(settings["temperature"])), int(str(settings["max_gen_toks"])))


def load(task: str, split: str, limit: int | None = None) -> list[Problem]:
    """The problems of one split.

    Args:
        task: Name of a task definition.
        split: `train`, `validation` or `test`.
        limit: Takes the first so many.

    Raises:
        ConfigError: no such task or split.
        DataError: the data cannot be had, the split is smaller than `limit` or empty, or two problems
            share an id.
    """
    existing = splits(task)
    if split not in SPLITS:
        raise unknown("split", split, list(SPLITS))
    if split not in existing:
        raise ConfigError(f"task {task} has no split {split!r}; allowed: {', '.join(existing)}")
    definition = _definition(task)
    documents = list(islice(_documents(definition, split), limit))
    problems = [_problem(definition, task, split, document) for document in documents]
    if not problems or (limit is not None and len(problems) < limit):
        wanted = "at least one" if limit is None else str(limit)
        raise DataError(
            f"task {task}, split {split}: found {len(problems)} problems, wanted {wanted}"
        )
    if len({problem.id for problem in problems}) < len(problems):
        raise DataError(f"task {task}, split {split}: two problems share an id")
    return problems


def of_suite(suite: Suite, split: str, limit: int | None = None) -> list[Problem]:
    """The problems of one split that a suite works on; see `select`."""
    return select(suite.task, split, limit, suite.data.split)


def select(task: str, split: str, limit: int | None, split_path: str | None) -> list[Problem]:
    """The problems of one split, as the task deals them out or as a split file has frozen them.

    Args:
        task: Name of a task definition.
        split: `train`, `validation` or `test`.
        limit: Takes the first so many.
        split_path: A split file; None for the task's own splits.

    Raises:
        ConfigError: no such task or split.
        DataError: as `load`; or the file is no split file of this task, or the task's problems are no
            longer those that it names.
    """
    if split_path is None:
        return load(task, split, limit)
    if split not in SPLITS:
        raise unknown("split", split, list(SPLITS))
    file = split_file.read(Path(split_path))
    if file.task != task:
        raise DataError(f"{file.path} splits the problems of task {file.task}, asked for {task}")
    frozen = _unchanged(file, split)
    wanted = 1 if limit is None else limit
    if len(frozen) < wanted:
        raise DataError(
            f"{file.path}, split {split}: found {len(frozen)} problems, wanted {wanted}"
        )
    return frozen[:limit]


def question(problem: Problem) -> str:
    """What a problem asks, without the instruction that its task's definition puts around it.

    Raises:
        ConfigError: no such task.
    """
    before, after = _wording(problem.task)
    return problem.prompt.removeprefix(before).removesuffix(after)


def fingerprint(problems: Sequence[Problem]) -> str:
    """A hash of ids, prompts and answers: two runs with equal ones saw the same problems."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(f"{problem.id}\0{problem.prompt}\0{problem.answer}\0".encode())
    return digest.hexdigest()[:16]


def _unchanged(file: split_file.SplitFile, split: str) -> list[Problem]:
    """All problems of a frozen split, each as it was when it was frozen.

    Raises:
        DataError: one is missing or reads otherwise; says how many.
    """
    marks = file.splits.get(split, {})
    held = {problem.id: problem for source in file.sources for problem in load(file.task, source)}
    changed = [id for id in marks if id not in held or fingerprint([held[id]]) != marks[id]]
    if changed:
        raise DataError(
            f"{file.path}, split {split}: {len(changed)} of {len(marks)} problems of task {file.task}"
            f" are missing or have changed, the first is {changed[0]}",
            hint="use the version of the task that was split, or split it anew",
        )
    return [replace(held[id], split=split) for id in marks]


@cache
def _wording(task: str) -> tuple[str, str]:
    """What a task's prompt says before and after the question."""
    before, _, after = str(_table(task)["doc_to_text"]).partition("{{question}}")
    return before, after


def _table(task: str) -> dict[str, object]:
    """A task's definition as data, its includes merged in; functions stay names."""
    if task not in names():
        raise unknown("task", task, names())
    return _merged(project_folder("tasks") / f"{task}.yaml")


def _merged(path: Path) -> dict[str, object]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads a definition as data."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    table: dict[str, object] = yaml.load(path.read_text(encoding="utf-8"), Loader)
    include = table.pop("include", None)
    return table if include is None else {**_merged(path.parent / str(include)), **table}


def _availability(metadata: Mapping[str, object]) -> str:
    if "requires" in metadata:
        requirement = str(metadata["requires"])
        return f"needs {requirement}" if packages.missing(requirement) else "offline"
    if "revision" in metadata:
        cached = hub_cache.holds(str(metadata["revision"]))
        return "hub: cached" if cached else "hub: not downloaded"
    return "offline"


@cache
def _manager() -> TaskManager:
    import logging

    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it greets every custom data set
    return TaskManager(include_path=str(project_folder("tasks")), include_defaults=False)


@cache
def _definition(task: str) -> Task:
    """lm-eval's task with its data.

    Raises:
        DataError: the data cannot be had, or is of another commit than the definition names.
    """
    manager = _manager()
    try:
        definition: Task = manager.load([task])["tasks"][task]
    except SdbenchError:
        raise
    except Exception as error:
        if describe(task).revision is None or not hub_cache.is_fault(error):
            raise
        raise DataError(
            f"task {task}: its data set is neither on this machine nor could it be fetched: "
            f"{' '.join(str(error).split())[:200]}",
            hint="connect to the Hugging Face hub once; after that the cached copy serves",
        ) from error
    _check_revision(definition, task)
    return definition


def _check_revision(definition: Task, task: str) -> None:
    """Without a network `datasets` takes whatever commit it finds in its cache, and says nothing."""
    options = definition.config.dataset_kwargs or {}
    revision = options.get("revision")
    if revision is None or definition.config.dataset_path is None:
        return
    files = [file["filename"] for data in definition.dataset.values() for file in data.cache_files]
    strange = [file for file in files if revision not in PurePath(file).parts]
    if strange:
        raise DataError(
            f"task {task} is defined on commit {revision}; the cache holds {strange[0]}",
            hint="connect to the Hugging Face hub, or remove that folder",
        )


def _documents(definition: Task, split: str) -> Iterable[dict[str, object]]:
    documents = {
        "train": definition.training_docs,
        "validation": definition.validation_docs,
        "test": definition.test_docs,
    }
    return cast(Iterable[dict[str, object]], documents[split]())


def _problem(definition: Task, task: str, split: str, document: dict[str, object]) -> Problem:
    solution = document.get("solution")
    return Problem(
        id=str(document["id"]),
        task=task,
        split=split,
        prompt=str(definition.doc_to_text(document)),
        answer=str(definition.doc_to_target(document)),
        solution=None if solution is None else str(solution),
    )
