"""Traces: a completion read as tagged steps, and character spans matched to token spans.

In: the text of a completion, `<step_1>...</step_1> ... <answer>...</answer>`, whole or cut short.
Out: a `Trace` whose spans point into that very text, and the token span of any character span.
Nothing here knows what a step means; that is the critics' work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STEP_OPEN = re.compile(r"\s*<step_(\d+)>")
_TAG = re.compile(r"</?(?:step_\d+|answer)>")
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


def join(steps: Sequence[str], answer: str | None = None) -> str:
    """Writes step contents (and an answer) as a tagged trace; `parse` reads them back."""
    tagged = [f"<step_{n}>{content}</step_{n}>" for n, content in enumerate(steps, 1)]
    return "".join(tagged) + ("" if answer is None else f"<answer>{answer}</answer>")


def token_ends(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """Where each token ends in the decoded text, in characters.

    Prefixes are decoded, not single tokens, so a character made of several tokens is counted
    once, at the token that completes it.

    Returns:
        One end for each token, never falling; the last is the length of the whole text.
    """
    ends: list[int] = []
    for count in range(1, len(token_ids) + 1):
        prefix = decode(token_ids[:count])
        end = len(prefix.rstrip("�")) if count < len(token_ids) else len(prefix)
        ends.append(max(end, ends[-1] if ends else 0))
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
