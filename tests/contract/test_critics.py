"""What every critic must keep to: run over all that `plugins.names` finds."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model
from word_problem_fixture import attempt_with, word_problems

from sdbench import plugins, traces, worked
from sdbench.arithmetic.expression import Expression, sample
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.critics.base import Critic, CriticSurroundings
from sdbench.grading import Grader
from sdbench.plugins import Kind
from sdbench.records import Attempt, CritiqueCase

MakeAttempt = Callable[[Expression, str, int], Attempt]
CRITICS = plugins.names(Kind.CRITIC)
SCRIPT = "<case>D</case><step_1>3 * 271 = 813</step_1>\n<answer>\\boxed{1337}</answer>"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


@pytest.fixture(scope="module")
def critic_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("critic"), max_length=4096)


def expressions(attempt_at: MakeAttempt) -> list[Attempt]:
    """A right, a wrong, a cut and an empty attempt at each of three expressions."""
    made = []
    for seed in range(3):
        problem = sample(random.Random(seed))
        right = write_solution(carry_out(problem, plan(problem, Order.INTERLEAVED)))
        wrong = right[:-10] + f"{(problem.value + 1) % 10}</answer>"
        made += [
            attempt_at(problem, text, n) for n, text in enumerate((right, wrong, right[:20], ""))
        ]
    return made


def word_attempts(grader: Grader) -> list[Attempt]:
    """The same at each of three word problems."""
    made = []
    for problem in word_problems()[:3]:
        right = worked.tagged(problem.solution or "", problem.answer)
        wrong = right.replace(f"{{{problem.answer}}}", "{7}")
        for index, text in enumerate((right, wrong, right[:40], "")):
            one = attempt_with(grader, problem, text)
            name = f"{problem.id}#{index}"
            rollout = replace(one.rollout, id=name, index=index)
            made.append(replace(one, rollout=rollout, verdict=replace(one.verdict, id=name)))
    return made


@pytest.fixture
def attempts(name: str, attempt_at: MakeAttempt, grader: Grader) -> list[Attempt]:
    """Attempts at problems that this critic can judge."""
    both = {"oracle": [expressions(attempt_at)], "aligned": [expressions(attempt_at)]}
    words = [] if name == "oracle" else [word_attempts(grader)]
    return [one for kind in (*both.get(name, []), *words) for one in kind]


@pytest.fixture
def build(name: str, critic_model: Path) -> Callable[[], Critic]:
    """Builds this critic anew, with what it needs."""
    engine = {"name": "fake", "options": {"script": {"*": [SCRIPT]}}}
    options: Mapping[str, Mapping[str, object]] = {
        "model": {
            "model": str(critic_model),
            "engine": engine,
            "max_tokens": 512,
            "audit": {"verbatim": 0.0, "refuse": []},  # the script is of no attempt in particular
        }
    }

    def built() -> Critic:
        module = plugins.load(Kind.CRITIC, name)
        config = module.Config.model_validate(options.get(name, {}))
        critic: Critic = module.build(config, CriticSurroundings("steps"))
        return critic

    return built


def ids(attempts: Sequence[Attempt]) -> list[str]:
    return [attempt.rollout.id for attempt in attempts]


@pytest.mark.parametrize("name", CRITICS)
def test_critiques_are_of_the_attempts_at_most_one_each(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    found = list(build().critique(attempts))
    told = [one.rollout_id for one in found]
    assert set(told) <= set(ids(attempts))
    assert len(set(told)) == len(told)
    assert told, "a critic that says nothing teaches nothing"
    assert {one.critic for one in found} == {name}


@pytest.mark.parametrize("name", CRITICS)
def test_nothing_is_judged_before_it_is_wanted(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    """Critiques are a stream: the first can be had without the last."""
    found = build().critique(attempts)
    assert not isinstance(found, list)
    first = next(found)
    assert first.rollout_id in ids(attempts)
    assert first.rollout_id not in {one.rollout_id for one in found}


@pytest.mark.parametrize("name", CRITICS)
def test_an_identity_is_a_file_name_that_stays_the_same(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    """A critic without one costs nothing."""
    one, other = build(), build()
    assert one.identity == other.identity
    if one.identity is None:
        assert all(found.tokens == 0 for found in one.critique(attempts))
    else:
        assert re.fullmatch(rf"{name}-[0-9a-f]{{12}}", one.identity)


@pytest.mark.parametrize("name", CRITICS)
def test_a_critique_is_a_whole_trace_and_says_where_it_leaves_the_rollout(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    rollouts = {attempt.rollout.id: attempt.rollout.text for attempt in attempts}
    for one in build().critique(attempts):
        assert one.case is not None
        assert traces.parse(one.text).well_formed
        assert (one.first_wrong_step is None) == (one.case is CritiqueCase.CORRECT)
        own, copied = traces.parse(rollouts[one.rollout_id]), traces.parse(one.text)
        kept = len(own.steps) if one.first_wrong_step is None else one.first_wrong_step - 1
        assert kept <= len(own.steps)
        assert [s.content for s in copied.steps[:kept]] == [s.content for s in own.steps[:kept]]


@pytest.mark.parametrize("name", CRITICS)
def test_the_same_attempt_gets_the_same_critique_in_any_company(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    critic = build()
    first = {one.rollout_id: one for one in critic.critique(attempts)}
    again = {one.rollout_id: one for one in critic.critique(attempts[::-1])}
    alone = {one.rollout_id: one for a in attempts for one in build().critique([a])}
    assert first == again == alone


@pytest.mark.parametrize("name", CRITICS)
def test_a_critic_can_be_closed_at_any_time(
    name: str, build: Callable[[], Critic], attempts: list[Attempt]
) -> None:
    critic = build()
    critic.close()
    before = list(critic.critique(attempts))
    critic.close()
    critic.close()
    assert list(critic.critique(attempts)) == before
    assert list(critic.critique([])) == []
