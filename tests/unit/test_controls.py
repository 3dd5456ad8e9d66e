"""The controls by hand: what each one's teacher reads, and what it leaves out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdbench import assembly, worked
from sdbench.arithmetic.expression import Expression, parse
from sdbench.conditions.base import Group, Surroundings, resolve, restricted
from sdbench.conditions.critique_wrong_step import misplaced
from sdbench.config import Suite, load_suite
from sdbench.critics.oracle import Oracle
from sdbench.errors import ConfigError, DataError
from sdbench.losses import cross_entropy
from sdbench.losses.base import LossInputs
from sdbench.models import Model
from sdbench.records import Attempt, Critique, CritiqueCase, Feedback, Problem

MakeAttempt = Callable[[Expression, str, int], Attempt]

# 4*6=4, 4+3=7, 7-5=2, 7*2=4, 2+4=6.
PROBLEM = parse("4*6+3-5+7*2")
FIRST, SECOND = "<step_1>4*6=4</step_1>", "<step_2>4+3=7</step_2>"
REST = "<step_3>7-5=2</step_3><step_4>7*2=4</step_4><step_5>2+4=6</step_5><answer>6</answer>"
RIGHT = FIRST + SECOND + REST
SLIP = "<step_2>4+3=8</step_2>"
WRONG = f"{FIRST}{SLIP}<step_3>8-5=3</step_3><answer>3</answer>"
# 1+2=3, 3+3=6, 6+4=0.
OTHER = parse("1+2+3+4*1")
OTHER_WRONG = "<step_1>1+2=4</step_1><answer>4</answer>"


def group(attempt_at: MakeAttempt, problem: Expression, *texts: str) -> Group:
    attempts = tuple(attempt_at(problem, text, index) for index, text in enumerate(texts))
    return Group(attempts[0].problem, attempts)


@pytest.fixture
def tell(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> Callable[..., list[Feedback]]:
    def told(name: str, *texts: str, problem: Expression = PROBLEM) -> list[Feedback]:
        arm = resolve(tiny, name)
        return arm.build(surroundings).feedback([group(attempt_at, problem, *texts)])

    return told


Tell = Callable[..., list[Feedback]]


def test_the_three_regimes_differ_in_what_stands_before_the_correction(tell: Tell) -> None:
    """Copied up to the error; with the error quoted and rejected; and with nothing before it."""
    contexts = {
        name: tell(name, WRONG)[0].context
        for name in ("critique", "critique_full_quote", "critique_omit_trace")
    }
    assert contexts == {
        "critique": FIRST + SECOND + REST,
        "critique_full_quote": FIRST + SLIP + "<wrong>" + SECOND + REST,
        "critique_omit_trace": SECOND + REST,
    }


@pytest.mark.parametrize("name", ["critique_full_quote", "critique_omit_trace"])
def test_where_the_first_step_is_wrong_nothing_is_copied_anyway(tell: Tell, name: str) -> None:
    text = "<step_1>4*6=5</step_1><answer>5</answer>"
    quoted = "<step_1>4*6=5</step_1><wrong>" if name == "critique_full_quote" else ""
    assert tell(name, text)[0].context == quoted + RIGHT


def test_a_right_rollout_has_nothing_to_quote_and_all_to_omit(tell: Tell) -> None:
    assert tell("critique_full_quote", RIGHT)[0].context == RIGHT
    assert tell("critique_omit_trace", RIGHT)[0].context == "<answer>6</answer>"


def test_a_language_model_is_told_in_words(
    tiny: Suite, organism: Model, attempt_at: MakeAttempt
) -> None:
    """In the style `steps`; the words around are the project's own."""
    suite = tiny.model_copy(update={"prompts": "steps"})
    found = assembly.surroundings(suite, organism)
    one = group(attempt_at, PROBLEM, WRONG)
    contexts = {
        name: resolve(suite, name).build(found).feedback([one])[0].context
        for name in ("critique_full_quote", "critique_omit_trace", "feedback_outcome")
    }
    assert contexts == {
        "critique_full_quote": f"{FIRST}{SLIP}\nStep 2 of the attempt is wrong. From there on it"
        f" should be:\n{SECOND}{REST}",
        "critique_omit_trace": "The first steps of the attempt, 1 of them, are right. From there on"
        f" it should be:\n{SECOND}{REST}",
        "feedback_outcome": "The answer of the attempt is wrong. The right answer is 6.",
    }


def test_a_shuffled_critique_is_of_another_problem(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """Each of two problems gets the other's; the rollout's own critique is kept, as it was paid."""
    groups = [group(attempt_at, PROBLEM, WRONG), group(attempt_at, OTHER, OTHER_WRONG)]
    told = resolve(tiny, "critique_shuffled").build(surroundings).feedback(groups)
    critiques = resolve(tiny, "critique").build(surroundings).feedback(groups)
    assert [one.context for one in told] == [one.context for one in critiques[::-1]]
    assert [one.critique for one in told] == [one.critique for one in critiques]


@pytest.mark.parametrize("name", ["critique_shuffled", "other_problem"])
def test_a_single_problem_has_no_other(tell: Tell, name: str) -> None:
    told = tell(name, WRONG, RIGHT)
    assert [(one.view, one.dropped) for one in told] == [(None, "missing")] * 2


def test_another_problems_solution(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    groups = [group(attempt_at, PROBLEM, WRONG, RIGHT), group(attempt_at, OTHER, OTHER_WRONG)]
    told = resolve(tiny, "other_problem").build(surroundings).feedback(groups)
    solutions = [one.problem.solution for one in groups]
    assert [one.context for one in told] == [solutions[1], solutions[1], solutions[0]]


def test_three_problems_stand_in_a_ring(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    """Nobody gets his own, and nobody's is given twice."""
    expressions = [PROBLEM, OTHER, parse("9-8-7*6+5")]
    groups = [group(attempt_at, one, "<answer>x</answer>") for one in expressions]
    told = resolve(tiny, "other_problem").build(surroundings).feedback(groups)
    given = [one.context for one in told]
    own = [one.problem.solution for one in groups]
    assert len(set(given)) == 3
    assert all(a != b for a, b in zip(given, own, strict=True))


def test_a_critique_that_marks_a_correct_step(surroundings: Surroundings, tell: Tell) -> None:
    """Only the first step is right before the slip: its 4 becomes another digit, all else stays."""
    (one,) = tell("critique_wrong_step", WRONG)
    assert one.context is not None
    tail = f"</step_1>{SLIP}<step_3>8-5=3</step_3><answer>3</answer>"
    assert one.context.startswith("<step_1>4*6=") and one.context.endswith(tail)
    assert one.context[len("<step_1>4*6=")] in "012356789"
    assert len(one.context) == len(WRONG)


def test_where_no_step_is_right_none_can_be_marked(tell: Tell) -> None:
    (one,) = tell("critique_wrong_step", "<step_1>4*6=5</step_1><answer>5</answer>")
    assert (one.view, one.dropped) == (None, "missing")
    assert one.critique is not None, "what it cost is still counted"


@given(st.integers(0, 10**6))
def test_the_marked_step_was_right_and_is_now_wrong(attempt_at: MakeAttempt, index: int) -> None:
    """The exact critic finds the error in the very step that was changed, whatever the draw."""
    attempt = attempt_at(PROBLEM, WRONG, index)
    (before,) = Oracle().critique([attempt])
    changed = misplaced(attempt, before)
    assert changed is not None
    (after,) = Oracle().critique([attempt_at(PROBLEM, changed, index)])
    assert (before.first_wrong_step, after.first_wrong_step) == (2, 1)


@given(st.integers(0, 10**6))
def test_in_a_right_rollout_any_step_can_be_marked(attempt_at: MakeAttempt, index: int) -> None:
    attempt = attempt_at(PROBLEM, RIGHT, index)
    (before,) = Oracle().critique([attempt])
    changed = misplaced(attempt, before)
    assert changed is not None
    (after,) = Oracle().critique([attempt_at(PROBLEM, changed, index)])
    assert after.first_wrong_step is not None
    differing = [a != b for a, b in zip(changed, RIGHT, strict=True)]
    assert sum(differing) == 1


def test_a_number_without_a_step_is_not_touched(attempt_at: MakeAttempt) -> None:
    """A step in words has no digit to change."""
    attempt = attempt_at(PROBLEM, "<step_1>a</step_1><answer>7</answer>", 0)
    critique = Critique(attempt.rollout.id, "scripted", CritiqueCase.INCORRECT, "", 2)
    assert misplaced(attempt, critique) is None


def test_the_outcome_is_the_answer_without_reasoning(tell: Tell) -> None:
    assert [one.context for one in tell("feedback_outcome", WRONG, RIGHT)] == [
        "<answer>6</answer>"
    ] * 2


def test_a_teacher_without_context_reads_what_the_student_reads(
    tell: Tell, attempt_at: MakeAttempt
) -> None:
    (one,) = tell("reference_free", WRONG)
    rollout = attempt_at(PROBLEM, WRONG, 0).rollout
    assert one.view is not None
    assert one.view.input_ids == (*rollout.prompt_ids, *rollout.completion_ids)


def test_the_solution_in_the_solvers_notation(tell: Tell) -> None:
    assert [one.context for one in tell("reference_same_style", WRONG, RIGHT)] == [RIGHT] * 2


def test_a_word_problems_solution_in_the_solvers_notation() -> None:
    problem = Problem("p", "gsm_symbolic", "train", "?", "18", "There are 9*2 = 18.\n#### 18")
    expected = "<step_1>There are 9*2 = 18.</step_1>\n<answer>\\boxed{18}</answer>"
    assert worked.in_solvers_notation(problem, "steps") == expected
    with pytest.raises(DataError, match="p of task gsm_symbolic has no worked solution"):
        worked.in_solvers_notation(dataclasses.replace(problem, solution=None), "steps")


def test_a_sibling_is_the_next_right_rollout_and_never_oneself(tell: Tell) -> None:
    """Of wrong, right, wrong, right: wrong ones get the right one after them, right ones each other."""
    other = f"{RIGHT} "
    told = tell("sibling", WRONG, RIGHT, WRONG, other)
    assert [one.context for one in told] == [RIGHT, other, other, RIGHT]


def test_a_lonely_success_has_no_sibling_nor_has_one_beside_its_copy(tell: Tell) -> None:
    told = tell("sibling", WRONG, RIGHT, WRONG, RIGHT)
    assert [one.dropped for one in told] == [None, "missing", None, "missing"]
    assert {one.dropped for one in tell("sibling", WRONG, WRONG)} == {"missing"}


def test_the_contrast_is_the_critique_against_a_wrong_sibling(
    tell: Tell, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    told = tell("contrast", WRONG, RIGHT, OTHER_WRONG)
    critiques = tell("critique", WRONG, RIGHT, OTHER_WRONG)
    hints = [OTHER_WRONG, OTHER_WRONG, WRONG]
    for index, (one, plain, hint) in enumerate(zip(told, critiques, hints, strict=True)):
        attempt = attempt_at(PROBLEM, [WRONG, RIGHT, OTHER_WRONG][index], index)
        assert one.view == plain.view
        assert one.against == surroundings.view("critique", attempt, hint)


def test_without_another_wrong_sibling_there_is_no_contrast(tell: Tell) -> None:
    """A copy of the rollout is none."""
    told = tell("contrast", WRONG, RIGHT, WRONG)
    assert [one.dropped for one in told] == ["missing", None, "missing"]
    assert [one.view is None for one in told] == [True, False, True]


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (CritiqueCase.UNJUSTIFIED, f"{FIRST}<step_2>4+3=7</step_2>{REST}"),
        (CritiqueCase.INCOMPLETE, RIGHT),
    ],
)
def test_a_step_that_is_missing_or_cut_off_is_not_quoted_as_wrong(
    tiny: Suite,
    surroundings: Surroundings,
    attempt_at: MakeAttempt,
    case: CritiqueCase,
    text: str,
) -> None:
    """The step that stands at its place is right, or was not finished."""

    class Scripted(Unusable):
        def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
            for one in attempts:
                yield Critique(one.rollout.id, "scripted", case, text, 2)

    scripted = dataclasses.replace(surroundings, critic=Scripted())
    attempt = group(attempt_at, PROBLEM, f"{FIRST}<step_2>7-5=2</step_2><answer>6</answer>")
    (told,) = resolve(tiny, "critique_full_quote").build(scripted).feedback([attempt])
    assert told.context == text


def test_a_constant_advantage_falls_on_wrong_rollouts_alone(tell: Tell) -> None:
    assert [one.advantage for one in tell("constant_advantage", WRONG, RIGHT)] == [-1.0, 0.0]


def test_supervised_training_is_on_the_solution_in_either_notation(
    tiny: Suite, surroundings: Surroundings, organism: Model, attempt_at: MakeAttempt
) -> None:
    suite = load_suite("tiny-controls")
    one = group(attempt_at, PROBLEM, WRONG)
    assert one.problem.solution is not None
    for name, text in (("sft", one.problem.solution), ("sft_same_style", RIGHT)):
        (told,) = resolve(suite, name).build(surroundings).feedback([one])
        assert told.demonstration == organism.encode_completion(text)
        assert told.demonstration[-1] == organism.end_ids[0]
        assert (told.view, told.dropped) == (None, None)


def test_a_solution_longer_than_the_model_reads_is_dropped(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt
) -> None:
    short = dataclasses.replace(surroundings, max_length=20)
    (told,) = resolve(tiny, "sft").build(short).feedback([group(attempt_at, PROBLEM, WRONG)])
    assert (told.demonstration, told.dropped) == (None, "overlong")


class Unusable:
    """A critic whose critiques fail what is demanded of them."""

    identity = None

    def critique(self, attempts: Sequence[Attempt]) -> Iterator[Critique]:
        for one in attempts:
            yield Critique(
                one.rollout.id, "scripted", CritiqueCase.INCORRECT, "", 1, 3, ("quotes",)
            )

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "name", ["critique", "critique_full_quote", "critique_omit_trace", "critique_wrong_step"]
)
def test_a_critique_with_faults_is_dropped(
    tiny: Suite, surroundings: Surroundings, attempt_at: MakeAttempt, name: str
) -> None:
    scripted = dataclasses.replace(surroundings, critic=Unusable())
    (told,) = resolve(tiny, name).build(scripted).feedback([group(attempt_at, PROBLEM, WRONG)])
    assert (told.view, told.dropped) == (None, "critique")
    assert told.critique is not None and told.critique.tokens == 3


def test_right_or_wrong_rollouts_alone_are_an_arm_of_their_own(tiny: Suite) -> None:
    suite = restricted(tiny, "grpo_matched_rollouts", "incorrect")
    arm = resolve(suite, "grpo_matched_rollouts_incorrect_only")
    assert (arm.plugin, arm.config.rollouts) == ("grpo", "incorrect")
    assert arm.config.problems_per_update == 4
    assert resolve(suite, "grpo_matched_rollouts").config.rollouts == "all"
    with pytest.raises(ConfigError, match="unknown condition 'gpro'"):
        restricted(tiny, "gpro", "correct")


@pytest.mark.parametrize(
    ("arm", "loss", "unread", "allowed"),
    [
        ("contrast", "forward_kl", "against", "token_policy_gradient"),
        ("blend", "forward_kl", "advantage", "token_policy_gradient"),
        ("grpo", "cross_entropy", "advantage", "policy_gradient, token_policy_gradient"),
        ("critique", "cross_entropy", "teacher", "forward_kl, jsd, reverse_kl"),
        ("sft", "policy_gradient", "demonstration", "cross_entropy"),
    ],
)
def test_a_loss_that_would_ignore_the_feedback_is_refused(
    tiny: Suite, arm: str, loss: str, unread: str, allowed: str
) -> None:
    suite = tiny.model_copy(update={"condition": {arm: {"loss": loss}}})
    with pytest.raises(ConfigError, match=rf"{loss}' does not read .*{arm}.*{unread}.*{allowed}"):
        assembly.loss(suite, resolve(suite, arm))


def test_an_anchor_needs_tokens_that_the_policy_drew(tiny: Suite) -> None:
    suite = tiny.model_copy(update={"train": tiny.train.model_copy(update={"anchor_weight": 0.1})})
    assert assembly.loss(suite, resolve(suite, "critique"))
    with pytest.raises(ConfigError, match=r"anchor_weight = 0.1.*condition\.sft"):
        assembly.loss(suite, resolve(suite, "sft"))


def inputs(**changes: torch.Tensor | None) -> LossInputs:
    """Two tokens of a vocabulary of three; the policy is uniform."""
    plain = LossInputs(
        completion_ids_N=torch.tensor([0, 2]),
        policy_logits_NV=torch.zeros(2, 3, dtype=torch.float64, requires_grad=True),
        sampling_logprobs_N=None,
        temperature=2.0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("config_ends, ended", [([7, 1], 1), ([7, 8], 7)])
def test_a_demonstration_ends_as_the_chat_template_ends_a_turn(
    organism: Model, config_ends: list[int], ended: int
) -> None:
    """The tokenizer's end of text if the model stops there; else the first at which it does."""
    model = organism.around(organism.network)
    model.__dict__["end_ids"] = tuple(
        organism.tokenizer.eos_token_id if one == 1 else one for one in config_ends
    )
    expected = organism.tokenizer.eos_token_id if ended == 1 else ended
    assert model.encode_completion("1+2")[-1] == expected


def test_cross_entropy_by_hand() -> None:
    """Of a uniform policy over three: log 3, and the gradient 1/3 less 1 at the token."""
    given = inputs()
    losses = cross_entropy.build(cross_entropy.Config())(given)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([torch.tensor(3.0).log().item()] * 2)
    third = 1 / 3
    assert given.policy_logits_NV.grad is not None
    assert given.policy_logits_NV.grad.flatten().tolist() == pytest.approx(
        [third - 1, third, third, third, third, third - 1]
    )


def test_a_contrasted_advantage_leaves_the_student_out() -> None:
    """Teachers give the tokens log 1/2 and log 1/4 apart: A_t is their difference, log 2, both times."""
    teacher = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], dtype=torch.float64).log()
    against = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], dtype=torch.float64).log()
    plain = inputs(teacher_logits_NV=teacher).token_advantages_N
    contrasted = inputs(teacher_logits_NV=teacher, against_logits_NV=against).token_advantages_N
    log = torch.tensor([2.0, 1.5], dtype=torch.float64).log().tolist()
    assert contrasted.tolist() == pytest.approx([log[0]] * 2)
    assert plain.tolist() == pytest.approx([log[1]] * 2)
