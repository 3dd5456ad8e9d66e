"""What travels between stages: frozen, standard library only, joined by id and never by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

Drop = Literal["overlong", "critique", "missing"]
DROPS: tuple[Drop, ...] = get_args(Drop)
Given = Literal["advantage", "teacher", "against", "demonstration"]


class FinishReason(StrEnum):
    """Why a completion ended: by its own end-of-text token, or at the token cap."""

    STOP = "stop"
    LENGTH = "length"


class VerdictStatus(StrEnum):
    """The grader's finding; only `correct` scores."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNPARSABLE = "unparsable"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"


class CritiqueCase(StrEnum):
    """What the critic found, by the study's four cases."""

    CORRECT = "A"
    UNJUSTIFIED = "B"
    INCOMPLETE = "C"
    INCORRECT = "D"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task.

    Attributes:
        id: Unique within the task, the same in every run.
        task: Name of the task definition.
        split: `train`, `validation` or `test`.
        prompt: What the solver reads, before the chat template.
        answer: The right answer, as the grader takes it.
        solution: A worked solution by another author, None where the task has none.
    """

    id: str
    task: str
    split: str
    prompt: str
    answer: str
    solution: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine returns for one (request, sample).

    Attributes:
        request_id: Id of the request, a problem's id.
        index: Number of the sample within its problem, from 0.
        tokens: How many tokens were generated, the end-of-text token included.
        token_ids: Their ids; empty where a server does not tell them.
        logprobs: Of each generated token under the distribution it was drawn from, nats; empty
            unless they were asked for.
        text: The decoded completion without the end-of-text token.
        finish_reason: Why it ended.
    """

    request_id: str
    index: int
    tokens: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Rollout:
    """One training attempt of the solver at a problem.

    Attributes:
        id: Unique within the run.
        problem_id: The problem attempted.
        update: The optimiser update it trains, from 1.
        index: Number of the sample within its problem, from 0, over all epochs.
        prompt_ids: What the student read.
        completion_ids: What it wrote, the end-of-text token included.
        sampling_logprobs: Of each completion token when it was drawn, nats.
        text: The decoded completion.
        finish_reason: Why it ended.
    """

    id: str
    problem_id: str
    update: int
    index: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Sample:
    """One evaluation attempt.

    Attributes:
        id: `<problem id>#<index>`.
        problem_id: The problem attempted.
        index: Number of the sample within its problem, from 0.
        text: The decoded completion.
        completion_tokens: Tokens generated, end-of-text included.
        finish_reason: Why it ended.
        prompt_sha256: Of the problem's prompt: a sample of another prompt is drawn anew.
    """

    id: str
    problem_id: str
    index: int
    text: str
    completion_tokens: int
    finish_reason: FinishReason
    prompt_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grader's verdict on one sample or rollout.

    Attributes:
        id: Id of the sample or rollout.
        status: The finding.
        answer: The extracted answer in canonical form, None if there was none.
        verifier: Name and version of what decided.
    """

    id: str
    status: VerdictStatus
    answer: str | None
    verifier: str

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        return self.status is VerdictStatus.CORRECT


@dataclass(frozen=True, slots=True)
class Attempt:
    """A rollout with the problem it attempts and its verdict, joined by id."""

    problem: Problem
    rollout: Rollout
    verdict: Verdict

    def __post_init__(self) -> None:
        if self.rollout.problem_id != self.problem.id or self.verdict.id != self.rollout.id:
            raise ValueError(
                f"problem, rollout and verdict of {self.rollout.id} do not belong together"
            )


@dataclass(frozen=True, slots=True)
class Critique:
    """A critic's finding about one rollout.

    Attributes:
        rollout_id: The rollout judged.
        critic: Name of the critic.
        case: Which of the four cases, None if what the critic wrote cannot be read as a critique.
        text: What the teacher reads: correct steps verbatim, then the correction, to the answer.
            Where there is no case, all that the critic wrote.
        first_wrong_step: Number (from 1) of the first wrong or missing step, None in case A.
        tokens: Tokens the critic read and wrote; 0 for a critic that is no model.
        faults: Names of what the audit that its critic demands holds against it.
        stored: Whether it was bought before, for another rollout that says the same or by another
            run, so that its tokens were not paid for this rollout.
    """

    rollout_id: str
    critic: str
    case: CritiqueCase | None
    text: str
    first_wrong_step: int | None
    tokens: int = 0
    faults: tuple[str, ...] = ()
    stored: bool = False

    @property
    def error_written(self) -> bool:
        """Whether the first wrong step is one that was written, not one missing or only cut off."""
        return self.case is CritiqueCase.INCORRECT

    @property
    def usable(self) -> bool:
        """Whether it can be read and nothing is held against it."""
        return self.case is not None and not self.faults


@dataclass(frozen=True, slots=True)
class TeacherView:
    """What the teacher reads, and where each completion token lies in it.

    Attributes:
        input_ids: The teacher's prompt followed by the completion, [S]; neither is ever cut.
        positions: Index into `input_ids` of each completion token, [T], strictly rising, from 1 on.
    """

    input_ids: tuple[int, ...]
    positions: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.positions, self.positions[1:], strict=False))
        if not self.positions or self.positions[0] < 1 or not rising:
            raise ValueError("positions of a TeacherView must rise strictly from at least 1")
        if self.positions[-1] >= len(self.input_ids):
            raise ValueError("positions of a TeacherView must lie within its input_ids")

    def holds(self, completion_ids: Sequence[int]) -> bool:
        """Whether the completion stands at the positions, token for token."""
        return tuple(self.input_ids[p] for p in self.positions) == tuple(completion_ids)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one rollout is trained on: an advantage, a teacher's view, both, or a demonstration.

    Attributes:
        rollout_id: The rollout.
        advantage: One number for the whole rollout, None if the condition gives none.
        view: What the teacher reads, None if the condition has no teacher.
        context: The text that was added to the teacher's prompt, None without a teacher.
        critique: The critique of this rollout that the condition asked for, None if it asked for
            none.
        dropped: Why there is no view although the condition has a teacher: its prompt and the
            completion are longer than the model reads, there is no usable critique of the rollout,
            or what the context is made of is missing, such as a successful sibling. Such a rollout
            is left out of training and counted. `unwanted` is one that the arm does not train on,
            of which only the critique's cost is kept.
        against: What the teacher reads of a hint that it is contrasted with: its log-probability of
            each token is subtracted in place of the student's. None without a contrast.
        demonstration: Token ids that the student should have written, trained on in place of the
            rollout's; None if the rollout's own are.
    """

    rollout_id: str
    advantage: float | None = None
    view: TeacherView | None = None
    context: str | None = None
    critique: Critique | None = None
    dropped: Drop | Literal["unwanted"] | None = None
    against: TeacherView | None = None
    demonstration: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over problems with its uncertainty, as fractions (or tokens, for lengths).

    Attributes:
        value: The mean.
        standard_error: Over problems of this kind, clustered by problem; None for one problem.
        low: Lower end of the 95 % t interval that goes with `standard_error`, None without it.
        high: Upper end, None likewise.
        problems: How many problems.
        these_problems_standard_error: Over repeated sampling of these very problems; None where
            no closed form is known.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    problems: int
    these_problems_standard_error: float | None = None
