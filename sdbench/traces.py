"""Traces: a completion read as tagged steps, and character spans matched to token spans.

In: the text of a completion, `<step_1>...</step_1> ... <answer>...</answer>`, whole or cut short.
Out: a `Trace` whose spans point into that very text, and the token span of any character span.
Nothing here knows what a step means; that is the critics' work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

_STEP_OPEN = re.compile(r"\s*<step_(\d+)>")
_TAG = re.compile(r"</?(?:step_\d+|answer)>")
StepRole = Literal["thought", "correct", "first_wrong", "later"]
THOUGHT: StepRole = "thought"
CORRECT: StepRole = "correct"
FIRST_WRONG: StepRole = "first_wrong"
LATER: StepRole = "later"
# Tokens decoded at once by `token_ends`, and how many of them the next run decodes again.
RUN, OVERLAP = 32, 8
_HALF = "\N{REPLACEMENT CHARACTER}"
_ANSWER = re.compile(r"\s*<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of reasoning: `text[start:end]` is the step with its tags.

    Attributes:
        number: The number in the tag, from 1.
        content: What stands between the tags.
        start: First character of the opening tag.
        end: One past the last character of the closing tag.
        closed: False if the text ends, or another tag opens, before the closing tag.
    """

    number: int
    content: str
    start: int
    end: int
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Trace:
    """A completion as steps and an answer.

    Attributes:
        text: The completion, unchanged.
        steps: Steps numbered 1, 2, ... without a gap; reading stops at the first break in order.
        answer: The content of the answer tag, None if there is none.
        end: One past the last character that belongs to steps or answer.
    """

    text: str
    steps: tuple[Step, ...]
    answer: str | None
    end: int

    @property
    def well_formed(self) -> bool:
        """Only closed steps, then an answer, then nothing but white space."""
        closed = bool(self.steps) and all(step.closed for step in self.steps)
        return closed and self.answer is not None and not self.text[self.end :].strip()


def parse(text: str) -> Trace:
    """Reads the tagged steps from the start of a completion; total: any text gives a trace."""
    steps: list[Step] = []
    position = 0
    while (opening := _STEP_OPEN.match(text, position)) and opening[1] == str(len(steps) + 1):
        number = len(steps) + 1
        start = opening.end() - len(f"<step_{opening[1]}>")
        closing = f"</step_{opening[1]}>"
        following = _TAG.search(text, opening.end())
        close = -1 if following is None else following.start()
        if following is None or following[0] != closing:
            end = len(text) if following is None else close
            steps.append(Step(number, text[opening.end() : end], start, end, closed=False))
            return Trace(text, tuple(steps), None, end)
        position = close + len(closing)
        steps.append(Step(number, text[opening.end() : close], start, position))
    answer = _ANSWER.match(text, position)
    if answer is None:
        return Trace(text, tuple(steps), None, position)
    return Trace(text, tuple(steps), answer[1].strip(), answer.end())


def said(text: str) -> str:
    """What a completion says after it has thought; nothing if it never stops thinking."""
    _, ended, after = text.rpartition("</think>")
    if not ended:
        return "" if "<think>" in text else text
    return after.lstrip()


def join(steps: Sequence[str], answer: str | None = None, *, between: str = "") -> str:
    """Writes step contents (and an answer) as a tagged trace; `parse` reads them back."""
    tagged = [f"<step_{n}>{content}</step_{n}>" for n, content in enumerate(steps, 1)]
    return between.join([*tagged, *([] if answer is None else [f"<answer>{answer}</answer>"])])


def token_ends(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """Where each token ends in the decoded text, in characters.

    Runs of tokens are decoded, not single ones, so a character made of several tokens is counted
    once, at the token that completes it. A run overlaps the one before it, so that what a decoder
    does to the start of a text does not move the ends.

    Returns:
        One end for each token, never falling; the last is the length of the whole text.
    """
    ends: list[int] = []
    start, before = 0, 0  # The run's first token, and the characters that stand before the run.
    for count in range(1, len(token_ids) + 1):
        run = decode(token_ids[start:count])
        end = before + (len(run.rstrip(_HALF)) if count < len(token_ids) else len(run))
        ends.append(max(end, ends[-1] if ends else 0))
        if count - start >= RUN and not run.endswith(_HALF):
            overlap = decode(token_ids[count - OVERLAP : count])
            if run.endswith(overlap) and overlap:
                start, before = count - OVERLAP, before + len(run) - len(overlap)
    return ends


def token_span(ends: Sequence[int], start: int, end: int) -> range:
    """The tokens that write characters `start` to `end` (exclusive), given `token_ends`."""
    starts = [0, *ends][: len(ends)]
    touched = [
        index
        for index, (first, last) in enumerate(zip(starts, ends, strict=True))
        if first < end and last > start
    ]
    return range(touched[0], touched[-1] + 1) if touched else range(0)


def step_roles(
    text: str, ends: Sequence[int], first_wrong_step: int | None, *, written: bool = True
) -> tuple[StepRole, ...]:
    """The role of each token of a completion of which it is known where it goes wrong.

    Args:
        text: The completion.
        ends: Where each token ends in it, from `token_ends`.
        first_wrong_step: Number, from 1, of the first wrong step; that after the last one if a step
            is missing or the answer is wrong; None if all is right.
        written: Whether that step, if there is one of this number, is wrong; not so where it is right
            and one before it is missing, or where it was only cut off.

    Returns:
        `correct`, `first_wrong` or `later` for each token, and `thought` for what stands before what
        the completion says. Where nothing wrong is written, what follows the right steps is `later`.
    """
    spoken = said(text)
    before = len(text) - len(spoken)
    thoughts = sum(end <= before for end in ends) if before else 0
    told = [end - before for end in ends[thoughts:]]
    return (THOUGHT,) * thoughts + _roles(parse(spoken).steps, told, first_wrong_step, written)


def _roles(
    steps: Sequence[Step], ends: Sequence[int], first_wrong_step: int | None, written: bool
) -> tuple[StepRole, ...]:
    if first_wrong_step is None:
        return (CORRECT,) * len(ends)
    if first_wrong_step > len(steps) or not written:
        kept = steps[: first_wrong_step - 1]
        right = kept[-1].end if kept else 0
        return tuple(CORRECT if end <= right else LATER for end in ends)
    wrong = steps[first_wrong_step - 1]
    span = token_span(ends, wrong.start, wrong.end)
    return tuple(
        CORRECT if index < span.start else FIRST_WRONG if index in span else LATER
        for index in range(len(ends))
    )
