r"""What a critique is worth: whether it keeps to the scribe's rules, and whether it is right.

In: an attempt, a critique of it, and where it is known what is wrong with the attempt. Out: a
`Finding`, and over many of them shares with intervals clustered by problem.

A text is read as tokens that no model's tokeniser has a part in: tags, LaTeX commands, numbers
(`1,234.5` is one, and the same as `1234.5`), words, and every other visible character by itself.
White space does not count.

- *Correct prefix*: the attempt's steps before its first wrong one. Where that is known it is taken
  from there, else from the critique's own claim; a critique that finds nothing wrong claims all.
- *Verbatim*: each step of the prefix is compared with the critique's step of the same number. Of both
  together it is the share of tokens that they have in common, in order (a longest common
  subsequence), over those of the longer one: what is left out lowers it, and what is added too.
- *Quoted*: the first wrong step stands in the critique: as its step of that number, or, if it has at
  least 5 tokens, as a run of tokens anywhere. A later step that is that very run does not count, as
  what is wrong at one place can be right at another; nor does a step that was cut off, which is
  finished rather than quoted.
- *Leak*: a step of the critique's prefix holds the right answer, the attempt's step of that number
  does not, and the problem does not give it.
- *Claimed first wrong step*: the first step of the attempt for which the critique's step of the same
  number does not stand. A step *stands for* another if they are the same tokens, or if they show the
  same figures in the same order and share half of the tokens of the longer one. Figures are numbers,
  LaTeX commands, letters by themselves, and signs of operation and relation. So a correct step that
  was put in other words does not pass for a correction; it lowers the verbatim share instead. A step
  without any number or sign stands for nothing but itself: there a single word may be the correction.

What this cannot see: a correction that keeps every figure, such as another unit, counts as a
paraphrase; a correct step done by other figures counts as a correction.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from statistics import fmean
from typing import Annotated, Literal, cast

from pydantic import Field

from sdbench import stats, traces
from sdbench.config import Frozen
from sdbench.grading import Answer, Grader
from sdbench.records import Attempt, Critique, CritiqueCase, FinishReason
from sdbench.rundir import Row
from sdbench.traces import Step, Trace, said

Refusal = Literal["quoted", "wrong_answer", "leak"]
Fault = Literal["unparsable", "overlong", "inexact"] | Refusal
Tokens = tuple[str, ...]

# Fewer tokens of a wrong step than these stand in a right text by chance.
QUOTE = 5
# What a paraphrase shares with the step that it stands for.
NEAR = 0.5
_TOKEN = re.compile(
    r"""
    </?(?:step_\d+|answer)>
    |\\[A-Za-z]+
    |\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?
    |[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*
    |\S
    """,
    re.VERBOSE,
)
_SIGNS = frozenset("+-*/=<>^%\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}\N{MINUS SIGN}≈≠≤≥±·√")
_WORDS_OF_ONE_LETTER = frozenset("aAI")

SHARES = (
    "parsed",
    "verbatim",
    "exact",
    "quoted",
    "leaked",
    "answer_right",
    "first_error_right",
    "case_right",
    "agrees_on_first_error",
    "agrees_on_case",
)
LENGTHS = ("tokens", "ratio")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an attempt, by somebody else than the critic.

    Attributes:
        first_wrong_step: Number (from 1) of the first wrong or missing step, None if all is right.
        case: Which of the four cases it is, None where that is not known.
    """

    first_wrong_step: int | None
    case: CritiqueCase | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one critique is found to be; None wherever there is nothing to judge, or to judge by.

    Attributes:
        rollout_id: The rollout.
        problem_id: Its problem.
        case: The case that the critique names.
        true_case: The case that it is.
        faults: What the critic's own audit held against it.
        parsed: Whether it names a case and is steps and an answer. If not, all below is None.
        verbatim: Share of the correct prefix that it copies; None for an empty prefix.
        exact: Whether it copies all of it, token for token.
        quoted: Whether it quotes the wrong step; None where none was written to its end.
        leaked: Whether the right answer stands in a correct step that does not have it.
        answer_right: Whether its answer is right, by the grader.
        first_error_right: Whether it finds the first wrong step.
        case_right: Whether it names the right case.
        agrees_on_first_error: Whether the critic `aligned` finds the same step wrong.
        agrees_on_case: Whether `aligned` names the same case.
        tokens: Its length.
        ratio: Its length by that of the attempt; None for an empty attempt.
    """

    rollout_id: str
    problem_id: str
    case: CritiqueCase | None
    true_case: CritiqueCase | None
    faults: tuple[str, ...]
    parsed: bool
    verbatim: float | None = None
    exact: bool | None = None
    quoted: bool | None = None
    leaked: bool | None = None
    answer_right: bool | None = None
    first_error_right: bool | None = None
    case_right: bool | None = None
    agrees_on_first_error: bool | None = None
    agrees_on_case: bool | None = None
    tokens: int | None = None
    ratio: float | None = None


class Gate(Frozen):
    """What a critique must be for a teacher to read it.

    Attributes:
        verbatim: Least share of the correct prefix that it copies; 0 admits any.
        refuse: What else it must not do: quote the wrong step, come to a wrong answer, or let the
            right answer into a correct step.
    """

    verbatim: Annotated[float, Field(ge=0, le=1)] = 0.9
    refuse: tuple[Refusal, ...] = ("quoted", "wrong_answer", "leak")

    def faults(self, finding: Finding) -> tuple[Fault, ...]:
        """What it holds against a critique; empty if it may be read."""
        if not finding.parsed:
            return ("unparsable",)
        inexact = finding.verbatim is not None and finding.verbatim < self.verbatim
        found: dict[Refusal, bool] = {
            "quoted": finding.quoted is True,
            "wrong_answer": finding.answer_right is False,
            "leak": finding.leaked is True,
        }
        refused = tuple(name for name, there in found.items() if there and name in self.refuse)
        return (*(("inexact",) if inexact else ()), *refused)


def audit(
    attempts: Sequence[Attempt],
    critiques: Sequence[Critique],
    grader: Grader,
    truths: Mapping[str, Judgement] = {},
    opinions: Mapping[str, Judgement] = {},
) -> list[Finding]:
    """One finding for each critique, in their order.

    Args:
        attempts: What was judged, and perhaps more.
        critiques: Each of one of them.
        grader: Of the critiques' answers.
        truths: What is wrong with the attempts of which that is known, by rollout id.
        opinions: What the critic `aligned` takes to be wrong with them, likewise.
    """
    by_id = {attempt.rollout.id: attempt for attempt in attempts}
    golds = {one.rollout_id: by_id[one.rollout_id].problem.answer for one in critiques}
    answers = [
        Answer(one.rollout_id, one.text, golds[one.rollout_id], FinishReason.STOP)
        for one in critiques
        if golds[one.rollout_id].strip()
    ]
    right = {verdict.id: verdict.correct for verdict in grader.grade(answers)}
    return [
        examine(
            by_id[one.rollout_id],
            one,
            answer_right=right.get(one.rollout_id),
            truth=truths.get(one.rollout_id),
            opinion=opinions.get(one.rollout_id),
        )
        for one in critiques
    ]


def examine(
    attempt: Attempt,
    critique: Critique,
    *,
    answer_right: bool | None,
    truth: Judgement | None = None,
    opinion: Judgement | None = None,
) -> Finding:
    """What one critique is; see the module.

    Args:
        attempt: What it judges.
        critique: The critique.
        answer_right: Whether the grader finds its answer right; None if the right one is not known.
        truth: What is wrong with the attempt, if that is known.
        opinion: What the critic `aligned` takes to be wrong with it, if it can judge it.
    """
    text = said(attempt.rollout.text)
    own, given = traces.parse(text), traces.parse(critique.text)
    case, true_case = critique.case, None if truth is None else truth.case
    parsed = case is not None and given.well_formed and bool(given.answer)
    name, problem = attempt.rollout.id, attempt.problem
    if not parsed:
        return Finding(name, problem.id, case, true_case, critique.faults, parsed=False)
    claim = Judgement(critique.first_wrong_step, case)
    wrong = (truth or claim).first_wrong_step
    prefix = own.steps if wrong is None else own.steps[: wrong - 1]
    copied, length = verbatim(prefix, given.steps), len(tokens(text))
    return Finding(
        rollout_id=name,
        problem_id=problem.id,
        case=case,
        true_case=true_case,
        faults=critique.faults,
        parsed=True,
        verbatim=copied,
        exact=None if copied is None else copied == 1,
        quoted=_quoted(own.steps, given, wrong),
        leaked=_leaked(tokens(problem.answer.strip("$ ")), tokens(problem.prompt), prefix, given),
        answer_right=answer_right,
        first_error_right=_same_step(claim, truth),
        case_right=_same_case(claim, truth),
        agrees_on_first_error=_same_step(claim, opinion),
        agrees_on_case=_same_case(claim, opinion),
        tokens=len(tokens(critique.text)),
        ratio=len(tokens(critique.text)) / length if length else None,
    )


def summarise(findings: Sequence[Finding], attempts: int) -> Row:
    """Shares and lengths over findings, as in `audit.json`.

    Args:
        findings: Of every critique.
        attempts: How many attempts a critique was asked of.

    Returns:
        `shares` and `lengths` are means over problems with their intervals, None where no critique
        could be judged; `critiques` beside each says over how many. `confusion` counts by true case,
        then by the case named. `faults` counts what the critic's own audit held against them.
    """
    named = Counter(_letter(one.case) for one in findings)
    known = [one for one in findings if one.true_case is not None]
    confusion = {
        str(true): Counter(_letter(one.case) for one in known if one.true_case is true)
        for true in CritiqueCase
        if any(one.true_case is true for one in known)
    }
    return {
        "attempts": attempts,
        "critiques": len(findings),
        "problems": len({one.problem_id for one in findings}),
        "shares": {name: _mean(findings, name) for name in SHARES},
        "lengths": {name: _mean(findings, name) for name in LENGTHS},
        "cases": dict(sorted(named.items())),
        "confusion": {true: dict(sorted(row.items())) for true, row in confusion.items()},
        "faults": dict(sorted(Counter(f for one in findings for f in one.faults).items())),
    }


def tokens(text: str) -> Tokens:
    """A text as tokens; see the module."""
    return tuple(_plain(match[0]) for match in _TOKEN.finditer(text))


def verbatim(prefix: Sequence[Step], given: Sequence[Step]) -> float | None:
    """Share of a prefix that steps of the same numbers copy; None for a prefix without a token."""
    contents = {step.number: tokens(step.content) for step in given}
    pairs = [(tokens(step.content), contents.get(step.number, ())) for step in prefix]
    if not any(own for own, _ in pairs):
        return None
    copied = sum(common(own, other) for own, other in pairs)
    return copied / sum(max(len(own), len(other)) for own, other in pairs)


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of a longest common subsequence.

    By the bit-parallel recurrence of Hyyro (2004): a bit of `open_` is 0 where the length grows.
    """
    places: dict[str, int] = {}
    for index, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << index
    whole = open_ = (1 << len(first)) - 1
    for token in second:
        met = open_ & places.get(token, 0)
        open_ = ((open_ + met) | (open_ - met)) & whole
    return len(first) - open_.bit_count()


def stands_for(given: str, own: str) -> bool:
    """Whether a step of a critique says what a step of the attempt says; see the module."""
    ours, theirs = tokens(own), tokens(given)
    if ours == theirs:
        return True
    shown = _figures(ours)
    if shown != _figures(theirs) or not any(map(_is_value, shown)):
        return False
    return common(ours, theirs) >= NEAR * max(len(ours), len(theirs))


def kept(own: Trace, given: Trace) -> int:
    """How many of the attempt's steps, from the first, the critique's stand for."""
    pairs = zip(own.steps, given.steps, strict=False)  # Either may have more.
    same = takewhile(lambda p: p[0].closed and stands_for(p[1].content, p[0].content), pairs)
    return len(list(same))


def claimed(own: Trace, given: Trace, case: CritiqueCase) -> int | None:
    """Number of the step that a critique of this case treats as the first wrong or missing one."""
    return None if case is CritiqueCase.CORRECT else kept(own, given) + 1


def read_off(own: Trace, given: Trace) -> CritiqueCase:
    """The case of a critique that names none, by what it makes of the attempt.

    A if it says the same; C if the attempt has no answer and every step of it that is whole stands;
    else D. B cannot be told from it.
    """
    stand = kept(own, given)
    whole = sum(step.closed for step in own.steps)
    if own.answer is None:
        return CritiqueCase.INCOMPLETE if stand == whole else CritiqueCase.INCORRECT
    same = stand == len(own.steps) == len(given.steps)
    answers = given.answer is not None and tokens(own.answer) == tokens(given.answer)
    return CritiqueCase.CORRECT if same and answers else CritiqueCase.INCORRECT


def _plain(token: str) -> str:
    return token.replace(",", "") if token[0].isdigit() else token


def _figures(found: Tokens) -> Tokens:
    return tuple(token for token in found if _is_figure(token))


def _is_figure(token: str) -> bool:
    letter = len(token) == 1 and token.isalpha() and token not in _WORDS_OF_ONE_LETTER
    command = len(token) > 1 and token[0] == "\\"
    return letter or command or _is_value(token)


def _is_value(token: str) -> bool:
    """Whether it is a number or a sign."""
    return token[0].isdigit() or token[0] in _SIGNS


def _holds(text: Tokens, run: Tokens) -> bool:
    """Whether a run of tokens stands in a text."""
    return any(text[start : start + len(run)] == run for start in range(len(text) - len(run) + 1))


def _quoted(own: Sequence[Step], given: Trace, wrong: int | None) -> bool | None:
    if wrong is None or wrong > len(own) or not own[wrong - 1].closed:
        return None
    quote = tokens(own[wrong - 1].content)
    for step in given.steps:
        content = tokens(step.content)
        if content == quote:
            if step.number == wrong:
                return True
        elif len(quote) >= QUOTE and _holds(content, quote):
            return True
    return False


def _leaked(answer: Tokens, problem: Tokens, prefix: Sequence[Step], given: Trace) -> bool | None:
    if not answer or not prefix:
        return None
    if _holds(problem, answer):
        return False
    pairs = zip(prefix, given.steps, strict=False)  # Either may have more.
    return any(
        _holds(tokens(other.content), answer) and not _holds(tokens(step.content), answer)
        for step, other in pairs
    )


def _same_step(claim: Judgement, other: Judgement | None) -> bool | None:
    return None if other is None else claim.first_wrong_step == other.first_wrong_step


def _same_case(claim: Judgement, other: Judgement | None) -> bool | None:
    return None if other is None or other.case is None else claim.case is other.case


def _letter(case: CritiqueCase | None) -> str:
    return "none" if case is None else case.value


def _mean(findings: Sequence[Finding], name: str) -> Row | None:
    """The mean over problems of the mean over each problem's critiques."""
    by_problem: dict[str, list[float]] = {}
    for one in findings:
        value = cast("float | None", getattr(one, name))
        if value is not None:
            by_problem.setdefault(one.problem_id, []).append(float(value))
    if not by_problem:
        return None
    means = {problem: fmean(values) for problem, values in by_problem.items()}
    found = stats.estimate(means, share=name in SHARES)
    return {**asdict(found), "critiques": sum(map(len, by_problem.values()))}
