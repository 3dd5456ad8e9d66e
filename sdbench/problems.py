"""Problems of a task, read through lm-eval's task definitions.

In: the name of a YAML in `tasks/` and a split. Out: `Problem` records in the order of the data. Only
this module and the evaluation harness import lm_eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from sdbench.config import project_folder
from sdbench.errors import DataError
from sdbench.plugins import unknown
from sdbench.records import Problem

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

SPLITS = ("train", "validation", "test")


def names() -> list[str]:
    """Names of the tasks that ship."""
    return sorted(path.stem for path in project_folder("tasks").glob("[!_]*.yaml"))


def summary(task: str) -> str:
    """What a task is: the `description` in its metadata."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads a definition as data; functions stay names."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    path = project_folder("tasks") / f"{task}.yaml"
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader)
    return str(definition["metadata"]["description"])


def load(task: str, split: str, limit: int | None = None) -> list[Problem]:
    """The problems of one split.

    Args:
        task: Name of a task definition.
        split: `train`, `validation` or `test`.
        limit: Takes the first so many.

    Raises:
        ConfigError: no such task or split.
        DataError: the split is empty, smaller than `limit`, or two problems share an id.
    """
    if task not in names():
        raise unknown("task", task, names())
    if split not in SPLITS:
        raise unknown("split", split, list(SPLITS))
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


def fingerprint(problems: Sequence[Problem]) -> str:
    """A hash of ids, prompts and answers: two runs with equal ones saw the same problems."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(f"{problem.id}\0{problem.prompt}\0{problem.answer}\0".encode())
    return digest.hexdigest()[:16]


@cache
def _manager() -> TaskManager:
    import logging

    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it greets every custom data set
    return TaskManager(include_path=str(project_folder("tasks")), include_defaults=False)


@cache
def _definition(task: str) -> Task:
    tasks = _manager().load([task])["tasks"]
    definition: Task = tasks[task]
    return definition


def _documents(definition: Task, split: str) -> Sequence[dict[str, object]]:
    if split == "train" and definition.has_training_docs():
        return list(definition.training_docs())
    if split == "validation" and definition.has_validation_docs():
        return list(definition.validation_docs())
    if split == "test" and definition.has_test_docs():
        return list(definition.test_docs())
    return []


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
