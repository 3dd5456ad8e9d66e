"""Prompts: what each style asks, and where the completion begins with and without thinking."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from qwen3_fixture import TURN, TURN_END, Kind, tokenizer
from transformers import PreTrainedTokenizerFast

from sdbench import prompts, traces
from sdbench.conditions.base import append_completion
from sdbench.errors import ConfigError
from sdbench.grading.extract import extract_answer
from sdbench.models import Model, student_view
from sdbench.records import FinishReason, Rollout

PROBLEM = "How many are 9*2?\n\nReason step by step, and put the final answer in \\boxed{}."
COMPLETION = "<step_1>9*2 = 18 pink tiles.</step_1>\n<answer>\\boxed{18}</answer>"
OFF, HEADER = "<think>\n\n</think>\n\n", f"{TURN}assistant\n"


def shown(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of tokens, special ones included."""
    text = tokenizer.decode(list(ids))
    assert isinstance(text, str)
    return text


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return tokenizer(tmp_path_factory.mktemp("qwen3"))


@pytest.mark.parametrize("style", ["organism", "plain"])
def test_the_bare_problem(organism: Model, style: prompts.Style) -> None:
    assert prompts.solver_turn(style, PROBLEM) == PROBLEM
    assert prompts.fingerprint(style) == ""
    ids = prompts.solver(organism.tokenizer, style, "1+2")
    assert organism.decode(ids) == "1+2<sol>"


def test_steps_are_asked_for_in_the_format_that_is_read() -> None:
    """The example in the prompt, as a solver that copies it would write it."""
    turn = prompts.solver_turn("steps", PROBLEM)
    assert turn.startswith(f"{PROBLEM}\n\n")
    example = turn[turn.index("<step_1>") :].replace("...\n", "")
    assert traces.parse(example).well_formed
    assert extract_answer(example) == "the final answer"


def test_styles_that_ask_otherwise_have_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A changed text is another prompt, even under the same name."""
    before = prompts.fingerprint("steps")
    assert before
    monkeypatch.setattr(prompts, "template", lambda style, kind: "{prompt} Steps!")
    assert prompts.fingerprint("steps") not in ("", before)


@pytest.mark.parametrize("kind", ["solution", "critique"])
def test_the_teacher_reads_problem_context_and_the_solvers_format(
    qwen3: PreTrainedTokenizerFast, kind: prompts.ContextKind
) -> None:
    context = "It is <step_1>18</step_1>, {prompt} {format}."
    text = shown(qwen3, prompts.teacher(qwen3, "steps", kind, PROBLEM, context))
    assert text.index(PROBLEM) < text.index(context) < text.index("<answer>\\boxed")
    asked = prompts.solver_turn("steps", "")
    assert asked.strip() in text
    assert text.count(PROBLEM) == 1, "a name in a context is not filled in"


def test_a_critic_is_told_what_it_may_see() -> None:
    blind = prompts.critic_turn("steps", PROBLEM, "I say {answer} {reference}.")
    assert PROBLEM in blind and "I say {answer} {reference}." in blind
    assert "right answer:" not in blind
    answered = prompts.critic_turn("steps", PROBLEM, "18", answer="18")
    assert "The right answer: 18\n" in answered
    told = prompts.critic_turn("steps", PROBLEM, "18", answer="18", solution="It is {prompt}.")
    assert "The right answer: 18\n" in told and "It is {prompt}.\n" in told
    assert all(f"\n{case}: " in told for case in "ABCD")


def test_a_critics_prompt_is_its_turn_in_tokens(qwen3: PreTrainedTokenizerFast) -> None:
    turn = prompts.critic_turn("steps", PROBLEM, "18", "18", "so")
    ids = prompts.critic(qwen3, "steps", PROBLEM, "18", "18", "so", thinking=False)
    assert shown(qwen3, ids) == f"{TURN}user\n{turn}{TURN_END}\n{HEADER}{OFF}"


def test_a_style_without_such_a_prompt_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"'plain' has no text for kind 'critique'; allowed: organism, "
    ):
        prompts.template("plain", "critique")


@pytest.mark.parametrize(
    ("thinking", "end"), [(None, HEADER), (True, HEADER), (False, HEADER + OFF)]
)
def test_where_the_completion_begins(
    qwen3: PreTrainedTokenizerFast, thinking: bool | None, end: str
) -> None:
    """Qwen3 thinks unless its turn begins with thoughts that are empty."""
    text = shown(qwen3, prompts.solver(qwen3, "steps", PROBLEM, thinking))
    turn = prompts.solver_turn("steps", PROBLEM)
    assert text == f"{TURN}user\n{turn}{TURN_END}\n{end}"


def test_student_without_and_teacher_with_thinking_share_the_completions_tokens(
    qwen3: PreTrainedTokenizerFast,
) -> None:
    """The boundary lies after the think block for one, after the turn's header for the other.

    The last ids by hand: header of three tokens, then, for the student, the two tags, one token
    each, and each line end of two as the one token that it is.
    """
    student = prompts.solver(qwen3, "steps", PROBLEM, thinking=False)
    teacher = prompts.teacher(qwen3, "steps", "critique", PROBLEM, COMPLETION, thinking=True)
    names = ["<|im_start|>", "assistant", "\u010a"]
    assert qwen3.convert_ids_to_tokens(list(teacher[-3:])) == names
    off = ["<think>", "\u010a\u010a", "</think>", "\u010a\u010a"]
    assert qwen3.convert_ids_to_tokens(list(student[-7:])) == names + off
    ids = (*qwen3.encode(COMPLETION, add_special_tokens=False), qwen3.eos_token_id)
    rollout = Rollout(
        "r", "p", 1, 0, student, ids, (0.0,) * len(ids), COMPLETION, FinishReason.STOP
    )
    taught, own = append_completion(teacher, rollout), student_view(student, ids)
    assert (own.positions[0], taught.positions[0]) == (len(student), len(teacher))
    assert own.holds(ids) and taught.holds(ids)
    for view in (own, taught):
        whole = shown(qwen3, view.input_ids)
        assert whole.endswith(COMPLETION + TURN_END)
        assert qwen3.encode(whole, add_special_tokens=False) == list(view.input_ids)


def test_the_template_itself_renders_the_same_with_an_answer(
    qwen3: PreTrainedTokenizerFast,
) -> None:
    """A whole conversation has the student's prompt in it, since Qwen3 writes thoughts, if empty."""
    turns = [
        {"role": "user", "content": prompts.solver_turn("steps", PROBLEM)},
        {"role": "assistant", "content": COMPLETION},
    ]
    text = qwen3.apply_chat_template(turns, tokenize=False)
    student = prompts.solver(qwen3, "steps", PROBLEM, thinking=False)
    assert text == shown(qwen3, student) + COMPLETION + TURN_END + "\n"


def test_a_completion_is_never_encoded_together_with_its_prompt(
    qwen3: PreTrainedTokenizerFast,
) -> None:
    """One that begins with a line end would merge with the header's, and have other tokens."""
    teacher = prompts.teacher(qwen3, "steps", "solution", PROBLEM, "18", thinking=True)
    ids = (*qwen3.encode("\n18", add_special_tokens=False), qwen3.eos_token_id)
    rollout = Rollout("r", "p", 1, 0, (1,), ids, (0.0,) * len(ids), "\n18", FinishReason.STOP)
    view = append_completion(teacher, rollout)
    assert view.holds(ids)
    whole = shown(qwen3, view.input_ids)
    assert qwen3.encode(whole, add_special_tokens=False) != list(view.input_ids)


@pytest.mark.parametrize("kind", ["smollm2", "organism"])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_template_that_knows_no_thinking_ignores_it(
    tmp_path: Path, kind: Kind, thinking: bool
) -> None:
    other = tokenizer(tmp_path, kind)
    assert prompts.solver(other, "plain", "1+2", thinking) == prompts.solver(other, "plain", "1+2")


def test_smollm2_gets_its_system_turn(tmp_path: Path) -> None:
    other = tokenizer(tmp_path, "smollm2")
    text = shown(other, prompts.solver(other, "plain", "1+2"))
    assert text.startswith(f"{TURN}system\nYou are a helpful AI assistant")
    assert text.endswith(f"{TURN}user\n1+2{TURN_END}\n{HEADER}")


U, A = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
S, T = {"role": "system", "content": "s"}, {**A, "content": "<think>\nt\n</think>\n\na"}


@pytest.mark.parametrize("turns", [[U], [S, U], [U, A], [S, U, T, U], [U, T, U, T], [U, T, A]])
@pytest.mark.parametrize("thinking", [None, True, False])
def test_the_fixtures_template_renders_what_qwen3s_does(
    qwen3: PreTrainedTokenizerFast, turns: list[dict[str, str]], thinking: bool | None
) -> None:
    """Against the copy of Qwen3's template that trl brings along."""
    found = find_spec("trl")
    if found is None or found.origin is None:
        pytest.skip("trl is not installed")
    real = (Path(found.origin).parent / "chat_templates" / "qwen3.jinja").read_text()
    options = {} if thinking is None else {"enable_thinking": thinking}
    for generation in (True, False):
        ours, theirs = (
            qwen3.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=generation,
                chat_template=template,
                **options,  # type: ignore[arg-type]
            )
            for template in (None, real)
        )
        assert ours == theirs
