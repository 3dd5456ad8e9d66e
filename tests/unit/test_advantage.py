"""Where a teacher disagrees: roles by hand, localisation by hand, and the organism's own traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from qwen3_fixture import tiny_model

from sdbench import assembly, models, prompts, traces
from sdbench.analyze import advantage
from sdbench.analyze.advantage import MarkedTrace, analyse, mark, summarise
from sdbench.arithmetic.expression import Expression, parse
from sdbench.conditions.base import Group, Surroundings, resolve
from sdbench.config import Suite, Thinking, load_suite
from sdbench.critics import oracle
from sdbench.engines import fake, hf
from sdbench.grading import Grader
from sdbench.models import Model, student_view
from sdbench.records import Attempt, Feedback
from sdbench.rundir import Row
from sdbench.traces import StepRole

MakeAttempt = Callable[[Expression, str, int], Attempt]

# 4*6=4, 4+3=7, 7-5=2, 7*2=4, 2+4=6.
PROBLEM = parse("4*6+3-5+7*2")
# The second step is wrong, the third carries it on.
TRACE = "<step_1>4*6=4</step_1><step_2>4+3=8</step_2><step_3>8-5=3</step_3><answer>3</answer>"
STEP = 7  # tokens of a step: two tags and five characters


def ends_of(model: Model, text: str) -> list[int]:
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    return traces.token_ends(ids, model.decode)


def roles_of(attempt: Attempt, ends: Sequence[int]) -> tuple[str, ...]:
    """By the exact critic."""
    (found,) = oracle.Oracle().critique([attempt])
    return traces.step_roles(attempt.rollout.text, ends, found.first_wrong_step)


def test_roles_by_step(organism: Model, attempt_at: MakeAttempt) -> None:
    """Seven tokens before, seven of the wrong step, then seven and three of the answer."""
    attempt = attempt_at(PROBLEM, TRACE, 0)
    found = roles_of(attempt, ends_of(organism, TRACE))
    assert found == ("correct",) * STEP + ("first_wrong",) * STEP + ("later",) * (STEP + 3)


RIGHT = (
    "<step_1>4*6=4</step_1><step_2>4+3=7</step_2><step_3>7-5=2</step_3>"
    "<step_4>7*2=4</step_4><step_5>2+4=6</step_5><answer>6</answer>"
)


def test_in_a_right_trace_every_token_is_correct(organism: Model, attempt_at: MakeAttempt) -> None:
    ends = ends_of(organism, RIGHT)
    found = roles_of(attempt_at(PROBLEM, RIGHT, 0), ends)
    assert found == ("correct",) * len(ends)


@pytest.mark.parametrize("rest", ["", "<answer>6</answer>", " : 4"])
def test_what_follows_right_steps_in_a_trace_that_is_not_right_counts_as_later(
    organism: Model, attempt_at: MakeAttempt, rest: str
) -> None:
    """Four steps are missing: the one written is right, whatever comes then is not a wrong step."""
    text = TRACE[:22] + rest
    ends = ends_of(organism, text)
    found = roles_of(attempt_at(PROBLEM, text, 0), ends)
    assert found == ("correct",) * STEP + ("later",) * (len(ends) - STEP)


def test_a_trace_without_steps_is_all_later(organism: Model, attempt_at: MakeAttempt) -> None:
    """The reference notation has no tags; none of it is a correct step of the solver."""
    text = "4 : 6 x 4 ; <answer>4</answer>"
    ends = ends_of(organism, text)
    assert set(roles_of(attempt_at(PROBLEM, text, 0), ends)) == {"later"}


def test_an_unclosed_wrong_step_reaches_to_the_end(
    organism: Model, attempt_at: MakeAttempt
) -> None:
    text = "<step_1>4*6=4</step_1><step_2>4+3=8"
    found = roles_of(attempt_at(PROBLEM, text, 0), ends_of(organism, text))
    assert found == ("correct",) * STEP + ("first_wrong",) * 6


def marked(
    attempt: Attempt, roles: Sequence[StepRole], advantages: Sequence[float], name: str = "p"
) -> MarkedTrace:
    problem = dataclasses.replace(attempt.problem, id=name)
    rollout = dataclasses.replace(attempt.rollout, problem_id=name)
    whole = dataclasses.replace(attempt, problem=problem, rollout=rollout)
    return MarkedTrace(
        whole, "context", tuple("abcdefgh"[: len(roles)]), tuple(roles), tuple(advantages)
    )


C, W, L = traces.CORRECT, traces.FIRST_WRONG, traces.LATER


def test_localisation_by_hand(attempt_at: MakeAttempt) -> None:
    """Negative parts 1 | 2 + 1 | 2 of 6 in all: 3/6 on the wrong step; what is positive counts not."""
    attempt = attempt_at(PROBLEM, TRACE, 0)
    one = marked(attempt, [C, C, W, W, W, L], [-1.0, 5.0, -2.0, -1.0, 4.0, -2.0])
    assert one.negative() == 6
    assert (one.negative(C), one.negative(W), one.negative(L)) == (1, 3, 2)
    assert one.localisation == 0.5


@pytest.mark.parametrize(
    ("roles", "advantages"), [([C, C], [-1.0, -2.0]), ([C, W], [1.0, 0.0]), ([], [])]
)
def test_no_localisation_without_a_wrong_step_or_without_disagreement(
    attempt_at: MakeAttempt, roles: list[StepRole], advantages: list[float]
) -> None:
    assert marked(attempt_at(PROBLEM, TRACE, 0), roles, advantages).localisation is None


def test_the_summary_by_hand(attempt_at: MakeAttempt) -> None:
    """Trace a: 3 of 6 on two tokens of four; trace b: 1 of 2 on one of two; c has no wrong step.

    Pooled 4/8, by trace (1/2 + 1/2) / 2, uniform (2/4 + 1/2) / 2. Means by role over traces:
    correct (-3 + -1 + 1) / 3, first wrong (-1.5 + -1) / 2; later 0 from a alone.
    """
    attempt = attempt_at(PROBLEM, TRACE, 0)
    a = marked(attempt, [C, W, W, L], [-3.0, -1.0, -2.0, 0.0], "a")
    b = marked(attempt, [C, W], [-1.0, -1.0], "b")
    c = marked(attempt, [C, C], [2.0, 0.0], "c")
    found = summarise([c, a, b], 2)
    assert (found["traces"], found["traces_with_wrong_step"]) == (3, 2)
    assert found["traces_asked"] == 3
    localisation = table(found["localisation"])
    assert localisation["pooled"] == 0.5
    assert table(localisation["per_trace"])["value"] == 0.5
    assert localisation["uniform"] == 0.5
    means = {role: table(m)["value"] for role, m in table(found["mean_advantage"]).items()}
    assert means == pytest.approx({C: -1.0, W: -1.25, L: 0.0})
    examples = found["examples"]
    assert isinstance(examples, list)
    assert [table(example)["problem_id"] for example in examples] == ["a", "b"]
    assert table(examples[1])["tokens"] == [
        {"text": "a", "advantage": -1.0, "role": C},
        {"text": "b", "advantage": -1.0, "role": W},
    ]


def test_pooled_and_per_trace_scores_weigh_differently(attempt_at: MakeAttempt) -> None:
    """1 of 10 and 1 of 1: pooled 2/11, by trace 0.55."""
    attempt = attempt_at(PROBLEM, TRACE, 0)
    a = marked(attempt, [C, W], [-9.0, -1.0], "a")
    b = marked(attempt, [C, W], [0.0, -1.0], "b")
    localisation = table(summarise([a, b], 1)["localisation"])
    assert localisation["pooled"] == pytest.approx(2 / 11)
    assert table(localisation["per_trace"])["value"] == pytest.approx(0.55)


def test_a_summary_of_no_wrong_step_has_no_score(attempt_at: MakeAttempt) -> None:
    found = summarise([marked(attempt_at(PROBLEM, TRACE, 0), [C], [1.0])], 3)
    assert found["localisation"] == {"pooled": None, "per_trace": None, "uniform": None}
    assert table(found["mean_advantage"])[W] is None


def table(value: object) -> Row:
    assert isinstance(value, dict)
    return value


def test_advantages_are_teacher_minus_student(
    organism: Model, surroundings: Surroundings, tiny: Suite, attempt_at: MakeAttempt
) -> None:
    """Against log-probabilities read off the network one rollout at a time."""
    attempts = [attempt_at(PROBLEM, TRACE, 0), attempt_at(PROBLEM, TRACE[:35], 1)]
    groups = [Group(attempts[0].problem, tuple(attempts))]
    feedback = resolve(tiny, "critique").build(surroundings).feedback(groups)
    found = mark(
        hf.build(hf.Config(), organism), attempts, feedback, oracle.Oracle().critique(attempts)
    )
    for one, attempt, told in zip(found, attempts, feedback, strict=True):
        assert one.attempt is attempt
        assert one.context == told.context
        assert told.view is not None
        ids = list(attempt.rollout.completion_ids)

        def logprobs(input_ids: tuple[int, ...], ids: list[int] = ids) -> torch.Tensor:
            with torch.no_grad():
                logits_SV = organism.network(torch.tensor([input_ids])).logits[0]
            logprobs_TV = logits_SV[-len(ids) - 1 : -1].log_softmax(-1)
            found_T: torch.Tensor = logprobs_TV[torch.arange(len(ids)), torch.tensor(ids)]
            return found_T

        student = student_view(attempt.rollout.prompt_ids, ids)
        expected = logprobs(told.view.input_ids) - logprobs(student.input_ids)
        assert one.advantages == pytest.approx(expected.tolist(), abs=1e-4)
        assert "".join(one.tokens) == attempt.rollout.text + "<eos>"
        assert len(one.roles) == len(ids)


def test_a_rollout_without_a_view_is_left_out(organism: Model, attempt_at: MakeAttempt) -> None:
    attempt = attempt_at(PROBLEM, TRACE, 0)
    told = Feedback(attempt.rollout.id, advantage=1.0)
    assert (
        mark(
            hf.build(hf.Config(), organism), [attempt], [told], oracle.Oracle().critique([attempt])
        )
        == []
    )


def test_the_end_of_text_belongs_to_what_it_follows(
    organism: Model, surroundings: Surroundings, tiny: Suite, attempt_at: MakeAttempt
) -> None:
    attempt = attempt_at(PROBLEM, TRACE, 0)
    group = Group(attempt.problem, (attempt,))
    feedback = resolve(tiny, "critique").build(surroundings).feedback([group])
    (one,) = mark(
        hf.build(hf.Config(), organism), [attempt], feedback, oracle.Oracle().critique([attempt])
    )
    assert one.roles == (C,) * STEP + (W,) * STEP + (L,) * (STEP + 4)


def test_a_special_token_in_the_middle_shifts_no_role(
    organism: Model, surroundings: Surroundings, tiny: Suite, attempt_at: MakeAttempt
) -> None:
    """The text leaves special tokens out, so the ends must be measured without them as well."""
    attempt = attempt_at(PROBLEM, TRACE, 0)
    pad = organism.tokenizer.pad_token_id
    assert isinstance(pad, int)
    ids = (pad, *attempt.rollout.completion_ids)
    rollout = dataclasses.replace(
        attempt.rollout, completion_ids=ids, sampling_logprobs=(-0.5,) * len(ids)
    )
    attempt = dataclasses.replace(attempt, rollout=rollout)
    group = Group(attempt.problem, (attempt,))
    feedback = resolve(tiny, "critique").build(surroundings).feedback([group])
    (one,) = mark(
        hf.build(hf.Config(), organism), [attempt], feedback, oracle.Oracle().critique([attempt])
    )
    assert one.roles[: 2 * STEP + 1] == (C,) * (STEP + 1) + (W,) * STEP


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


SHORT = load_suite("tiny", ["analysis.traces=24", "analysis.examples=2"])


def test_a_condition_without_a_teacher_has_no_advantages(grader: Grader) -> None:
    assert analyse(SHORT, "grpo", grader) is None


def table_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def test_every_arm_reads_the_same_traces(grader: Grader) -> None:
    """The untrained model's rollouts; only what the teacher reads besides differs."""
    seen: list[list[tuple[object, list[object], list[object]]]] = []
    contexts: list[list[object]] = []
    for arm in ("critique", "reference"):
        row = analyse(SHORT, arm, grader)
        assert row is not None
        assert row["traces"] == 24
        pooled = table(row["localisation"])["pooled"]
        assert isinstance(pooled, float) and 0 <= pooled <= 1
        examples = [table(example) for example in table_list(row["examples"])]
        assert len(examples) == 2
        contexts.append([example["context"] for example in examples])
        tokens = [[table(t) for t in table_list(example["tokens"])] for example in examples]
        seen.append(
            [
                (example["problem_id"], [t["text"] for t in each], [t["role"] for t in each])
                for example, each in zip(examples, tokens, strict=True)
            ]
        )
    assert seen[0] == seen[1]
    assert contexts[0] != contexts[1]


def test_common_groups_are_the_untrained_models_own(grader: Grader) -> None:
    groups = advantage.common_groups(SHORT, assembly.untrained_engine(SHORT), grader)
    again = advantage.common_groups(SHORT, assembly.untrained_engine(SHORT), grader)
    assert groups == again
    assert len({group.problem.id for group in groups}) == 24
    assert {group.problem.split for group in groups} == {"validation"}


def test_the_first_of_a_group_is_the_same_whatever_its_size(grader: Grader) -> None:
    """So an arm that needs siblings is looked at on the traces of all the others."""
    engine = assembly.untrained_engine(SHORT)
    alone = advantage.common_groups(SHORT, engine, grader)
    beside = advantage.common_groups(SHORT, engine, grader, 3)
    assert [len(group.attempts) for group in beside] == [3] * 24
    assert [g.attempts[0].rollout.text for g in alone] == [
        g.attempts[0].rollout.text for g in beside
    ]
    assert len({a.rollout.text for g in beside for a in g.attempts}) > 24


def test_common_groups_are_asked_as_the_student_is(tmp_path: Path, grader: Grader) -> None:
    """In the suite's style, and thinking as rollouts in training do, not as evaluations do."""
    found = models.open_model(str(tiny_model(tmp_path)))
    engine = fake.build(fake.Config(), found)
    thinking = Thinking(student=False, evaluation=True)
    suite = SHORT.model_copy(update={"prompts": "steps", "thinking": thinking})
    for group in advantage.common_groups(suite, engine, grader):
        expected = prompts.solver(found.tokenizer, "steps", group.problem.prompt, thinking=False)
        assert [attempt.rollout.prompt_ids for attempt in group.attempts] == [expected]
