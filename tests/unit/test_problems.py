"""Problems through lm-eval's task definitions."""

from __future__ import annotations

import dataclasses

import pytest

from sdbench import problems
from sdbench.arithmetic.expression import parse, split_of
from sdbench.arithmetic.worked import reference_solution
from sdbench.errors import ConfigError, DataError


@pytest.mark.parametrize("split", problems.SPLITS)
def test_problems_of_the_arithmetic_task(split: str) -> None:
    found = problems.load("arithmetic", split, 20)
    assert len({problem.id for problem in found}) == 20
    for problem in found:
        expression = parse(problem.prompt)
        assert split_of(expression) == split == problem.split
        assert problem.task == "arithmetic"
        assert problem.id == f"{split}:{expression.text}"
        assert problem.answer == str(expression.value)
        assert problem.solution == reference_solution(expression)
    assert problems.load("arithmetic", split, 7) == found[:7]


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'aritmetic'.*did you mean 'arithmetic'"):
        problems.load("aritmetic", "train")
    with pytest.raises(ConfigError, match=r"unknown split 'dev'; allowed: train, validation, test"):
        problems.load("arithmetic", "dev")
    with pytest.raises(DataError, match="found 512 problems, wanted 513"):
        problems.load("arithmetic", "validation", 513)


def test_every_task_that_ships_has_a_summary() -> None:
    assert "arithmetic" in problems.names()
    for name in problems.names():
        assert problems.summary(name)
    assert not any(name.startswith("_") for name in problems.names())


def test_the_fingerprint_sees_prompts_answers_and_order() -> None:
    found = problems.load("arithmetic", "train", 3)
    whole = problems.fingerprint(found)
    assert whole == problems.fingerprint(problems.load("arithmetic", "train", 3))
    changed = [dataclasses.replace(found[0], answer="x"), *found[1:]]
    others = [found[:2], found[::-1], changed]
    assert len({whole, *map(problems.fingerprint, others)}) == 4
