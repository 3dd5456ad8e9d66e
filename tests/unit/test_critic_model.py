"""The model critic on scripted answers: what it is told, what is read, asked for again, and dropped.

The problem: 15 girls, 15 x 4 = 60 boys, 15 + 60 = 75 kids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model
from word_problem_fixture import attempt_with, problem_with

from sdbench import models, prompts, traces
from sdbench.config import PluginConfig
from sdbench.critics import model as model_critic
from sdbench.critics.base import CriticSurroundings, content_key, said
from sdbench.critics.model import Config, ModelCritic, parse
from sdbench.engines import fake
from sdbench.engines.base import Request, Sampling
from sdbench.errors import ConfigError
from sdbench.grading import Grader
from sdbench.models import Model
from sdbench.records import Attempt, Completion, Critique, CritiqueCase

PROBLEM = problem_with("15 girls in the field")
ROLLOUT = "<step_1>15 x 4 = 60</step_1><step_2>15 + 60 = 65</step_2><answer>65</answer>"
CRITIQUE = "<step_1>15 x 4 = 60</step_1><step_2>15 + 60 = 75</step_2><answer>75</answer>"
GOOD = f"<case>D</case>\n{CRITIQUE}"


@pytest.fixture(scope="module")
def attempt() -> Attempt:
    with Grader() as grader:
        return attempt_with(grader, PROBLEM, ROLLOUT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("critic"), max_length=4096)


@dataclass
class Heard:
    """What the engine was asked, call by call."""

    requests: list[list[Request]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    seen = Heard()
    original = fake.FakeEngine.stream

    def stream(
        self: fake.FakeEngine, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[Completion]:
        seen.requests.append(list(requests))
        seen.samplings.append(sampling)
        return original(self, requests, sampling)

    monkeypatch.setattr(fake.FakeEngine, "stream", stream)
    return seen


def critic(
    folder: Path,
    *texts: str,
    thinking: bool | None = None,
    script: dict[str, list[str]] | None = None,
    **options: object,
) -> ModelCritic:
    """A critic whose engine writes the texts one after the other, try by try."""
    engine = PluginConfig(name="fake", options={"script": script or {"*": list(texts)}})
    table = {"model": str(folder), "engine": engine, "max_tokens": 1024, **options}
    return model_critic.build(
        Config.model_validate(table), CriticSurroundings("steps", thinking=thinking)
    )


def critique(made: ModelCritic, *attempts: Attempt) -> Critique:
    (found,) = made.critique(attempts)
    return found


def tokens_of(model: Model, text: str) -> int:
    """Of a text with the end-of-text token."""
    return len(model.tokenizer.encode(text, add_special_tokens=False)) + 1


def other(attempt: Attempt, name: str) -> Attempt:
    """The same attempt under another id, thought about otherwise."""
    rollout = replace(attempt.rollout, id=name, text=f"<think>{name}</think>{ROLLOUT}")
    return replace(attempt, rollout=rollout, verdict=replace(attempt.verdict, id=name))


def test_a_critique_is_read(folder: Path, attempt: Attempt, heard: Heard) -> None:
    """Greedily, without log-probabilities; the first step is copied, so the second is the wrong one."""
    found = critique(critic(folder, GOOD), attempt)
    assert (found.critic, found.case, found.first_wrong_step) == (
        "model",
        CritiqueCase.INCORRECT,
        2,
    )
    assert (found.rollout_id, found.text) == (attempt.rollout.id, CRITIQUE)
    assert [(s.temperature, s.max_tokens, s.logprobs) for s in heard.samplings] == [
        (0, 1024, False)
    ]


def test_tokens_are_those_read_and_written(folder: Path, attempt: Attempt, heard: Heard) -> None:
    found = critique(critic(folder, GOOD), attempt)
    ((request,),) = heard.requests
    assert found.tokens == len(request.prompt_ids) + tokens_of(models.open_model(str(folder)), GOOD)


@pytest.mark.parametrize("sees", [True, False])
def test_the_reference_is_shown_or_not(
    folder: Path, attempt: Attempt, heard: Heard, *, sees: bool
) -> None:
    critique(critic(folder, GOOD, sees_solution=sees), attempt)
    ((request,),) = heard.requests
    tokenizer = models.open_model(str(folder)).tokenizer
    asked = tokenizer.decode(list(request.prompt_ids))
    assert request.prompt in asked
    assert PROBLEM.prompt in asked and ROLLOUT in asked
    assert ("The right answer: 75\n" in asked) == sees
    assert (str(PROBLEM.solution) in asked) == sees


@pytest.mark.parametrize("thinking", [None, True, False])
def test_thinking_is_the_suites_choice(
    folder: Path, attempt: Attempt, heard: Heard, thinking: bool | None
) -> None:
    critique(critic(folder, GOOD, thinking=thinking), attempt)
    ((request,),) = heard.requests
    asked = models.open_model(str(folder)).decode(request.prompt_ids)
    assert asked.endswith("<think>\n\n</think>\n\n") == (thinking is False)


def test_only_what_the_solver_said_is_judged(folder: Path, attempt: Attempt, heard: Heard) -> None:
    rollout = replace(attempt.rollout, text=f"<think>\nHm, 4?\n</think>\n\n{ROLLOUT}")
    found = critique(critic(folder, GOOD), replace(attempt, rollout=rollout))
    assert "Hm, 4?" not in heard.requests[0][0].prompt
    assert found.first_wrong_step == 2


@pytest.mark.parametrize(
    ("text", "case", "kept"),
    [
        (GOOD, "D", CRITIQUE),
        (f"<think>\nIs it <case>A</case>?\n</think>\n\n{GOOD}", "D", CRITIQUE),
        (f"The case is <case> B </case>.\n```\n{CRITIQUE}\n```\nDone.", "B", CRITIQUE),
        ("<case>C</case><step_1>a</step_1>\n\n<answer>\\boxed{7}</answer>  ", "C", None),
    ],
)
def test_what_can_be_read(text: str, case: str, kept: str | None) -> None:
    found = parse(text)
    assert found is not None
    assert found.case == case
    assert found.trace.text == kept or kept is None
    assert found.trace == traces.parse(found.trace.text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        CRITIQUE,  # no case
        f"<case>E</case>{CRITIQUE}",
        "<case>D</case>The answer is 75.",
        "<case>D</case><answer>75</answer>",
        "<case>D</case><step_1>15 x 4 = 60</step_1>",
        "<case>D</case><step_1>15 x 4 = 60<answer>75</answer>",
        "<case>D</case><step_1>15 x 4 = 60</step_1><step_3>75</step_3><answer>75</answer>",
        "<case>D</case><step_1>15 x 4 = 60</step_1><answer> </answer>",
        f"{CRITIQUE}<case>D</case>",
        f"<think>\n{GOOD}",
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    assert parse(text) is None


def test_case_a_has_no_wrong_step(folder: Path, attempt: Attempt) -> None:
    found = critique(critic(folder, f"<case>A</case>{ROLLOUT}"), attempt)
    assert (found.case, found.first_wrong_step, found.text) == ("A", None, ROLLOUT)


def test_what_cannot_be_read_is_asked_for_again(
    folder: Path, attempt: Attempt, heard: Heard
) -> None:
    """Sample 1 of the same request, at a temperature; both tries are paid for."""
    found = critique(critic(folder, "I agree.", GOOD), attempt)
    assert (found.case, found.text) == (CritiqueCase.INCORRECT, CRITIQUE)
    assert [[request.indices for request in call] for call in heard.requests] == [[(0,)], [(1,)]]
    assert [sampling.temperature for sampling in heard.samplings] == [0, 0.7]
    model = models.open_model(str(folder))
    read = 2 * len(heard.requests[0][0].prompt_ids)
    assert found.tokens == read + tokens_of(model, "I agree.") + tokens_of(model, GOOD)


def test_only_the_unreadable_ones_are_asked_for_again(
    folder: Path, attempt: Attempt, heard: Heard
) -> None:
    """All attempts in one batch; a critique that needs no second try does not wait for others."""
    attempts = [other(attempt, name) for name in ("a", "b", "c")]
    a, b, c = map(content_key, attempts)
    script = {a: [GOOD], b: ["no"], c: ["no", GOOD]}
    found = list(critic(folder, script=script).critique(attempts))
    assert [[request.id for request in call] for call in heard.requests] == [[a, b, c], [b, c]]
    assert [(one.rollout_id, one.case) for one in found] == [("a", "D"), ("b", None), ("c", "D")]


@pytest.mark.parametrize("retries", [0, 2])
def test_after_the_last_try_there_is_no_critique(
    folder: Path, attempt: Attempt, heard: Heard, retries: int
) -> None:
    """No case and no step, but what was written, and what it cost."""
    found = critique(critic(folder, "no", "nor now", "never", retries=retries), attempt)
    assert (found.case, found.first_wrong_step) == (None, None)
    assert found.text == ("never" if retries else "no")
    assert len(heard.requests) == 1 + retries
    assert found.tokens > (1 + retries) * len(heard.requests[0][0].prompt_ids)


def test_a_critique_that_was_cut_is_none(folder: Path, attempt: Attempt) -> None:
    found = critique(critic(folder, GOOD, max_tokens=12, retries=0), attempt)
    assert found.case is None
    assert GOOD.startswith(found.text)


def test_a_prompt_that_does_not_fit_is_not_asked(
    folder: Path, attempt: Attempt, heard: Heard
) -> None:
    """The other one is."""
    long = other(attempt, "long")
    long = replace(long, rollout=replace(long.rollout, text="1 + 1 = 2 " * 2000))
    found = list(critic(folder, GOOD).critique([long, attempt]))
    assert [(one.case, one.tokens > 0) for one in found] == [(None, False), ("D", True)]
    assert [one.faults for one in found] == [("overlong",), ()]
    assert [[request.id for request in call] for call in heard.requests] == [[content_key(attempt)]]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> int:
    """The engine has less of it than the model, as vLLM under `max_model_len`."""
    monkeypatch.setattr(fake.FakeEngine, "max_length", 3600)
    return 3600


def test_room_is_the_engines_and_not_the_models(
    folder: Path, attempt: Attempt, heard: Heard, room: int
) -> None:
    """A prompt of more than 3600 - 1024 tokens, though of less than 4096 - 1024, is not asked."""
    long = other(attempt, "long")
    long = replace(long, rollout=replace(long.rollout, text="1 + 1 = 2 " * 150))
    turn = prompts.critic_turn("steps", PROBLEM.prompt, long.rollout.text, "75", PROBLEM.solution)
    tokens = len(prompts.encode(models.open_model(str(folder)).tokenizer, turn, None))
    assert room - 1024 < tokens < 4096 - 1024
    found = list(critic(folder, GOOD).critique([long, attempt]))
    assert [one.faults for one in found] == [("overlong",), ()]
    assert [[request.id for request in call] for call in heard.requests] == [[content_key(attempt)]]


def test_the_usual_cap_is_half_the_engines_room(
    folder: Path, attempt: Attempt, heard: Heard, room: int
) -> None:
    critique(critic(folder, GOOD, max_tokens=None), attempt)
    assert heard.samplings[0].max_tokens == room // 2


@pytest.mark.parametrize("cap", [3600, 5000])
def test_a_cap_that_leaves_no_room_for_a_prompt_is_refused(
    folder: Path, attempt: Attempt, room: int, cap: int
) -> None:
    with pytest.raises(ConfigError, match=f"max_tokens = {cap}, .* room for {room} tokens"):
        critique(critic(folder, GOOD, max_tokens=cap), attempt)


def test_the_model_is_opened_when_it_is_needed_and_closed(
    tmp_path: Path, attempt: Attempt, heard: Heard
) -> None:
    """A condition without a critic never pays for it; a closed one opens again."""
    made = critic(tmp_path / "later", GOOD)
    made.close()
    tiny_model(tmp_path / "later", max_length=4096)
    assert critique(made, attempt).case == "D"
    made.close()
    assert critique(made, attempt).case == "D"
    assert list(made.critique([])) == []


@pytest.mark.parametrize(
    ("style", "engine", "options", "message"),
    [
        ("plain", "fake", {}, r"'plain' has no text for kind 'critic'; allowed: organism, steps"),
        ("steps", "fak", {}, r"unknown engine 'fak'.*did you mean 'fake'"),
        ("steps", "fake", {"scrip": {}}, r"\[critic\] engine fake.*scrip.*did you mean 'script'"),
    ],
)
def test_mistakes_are_found_before_anything_is_drawn(
    style: prompts.Style, engine: str, options: dict[str, object], message: str
) -> None:
    config = Config(model="none", engine=PluginConfig(name=engine, options=options))
    with pytest.raises(ConfigError, match=message):
        model_critic.build(config, CriticSurroundings(style))


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("a", "a"),
        ("<think>\nb\n</think>\n\na", "a"),
        ("b</think>a", "a"),
        ("<think>b</think>\n<think>c</think>a", "a"),
        ("<think>\nb", ""),
    ],
)
def test_thoughts_are_stripped(text: str, spoken: str) -> None:
    """Where the template opens the block in the prompt, only its end stands in the completion."""
    assert said(text) == spoken


def test_a_case_that_is_not_named_can_be_read_off(folder: Path, attempt: Attempt) -> None:
    """The second step differs, so D; a trace like the attempt's is A; a named case is passed over.

    Without that, what names no case cannot be read.
    """
    unread = critique(critic(folder, CRITIQUE), attempt)
    assert (unread.case, unread.faults) == (None, ("unparsable",))
    found = critique(critic(folder, CRITIQUE, cases="read"), attempt)
    assert (found.case, found.first_wrong_step, found.faults) == (CritiqueCase.INCORRECT, 2, ())
    assert found.text == CRITIQUE
    same = critique(critic(folder, f"<case>D</case>{ROLLOUT}", cases="read"), attempt)
    assert (same.case, same.first_wrong_step) == (CritiqueCase.CORRECT, None)
    assert same.faults == ("wrong_answer",)
