"""Finding the answer in a response.

In goes the text of a completion, out comes the text of its answer or None. Four places are looked
at, in this order: the last `<answer>...</answer>`, the last `\\boxed{}` or `\\fbox{}`, a line
`#### 12`, and a phrase such as "The answer is 3." or "**Answer: 12**". What was written inside a
reasoning block does not count. Every step takes time linear in the length of the text, whatever the
text is.
"""

from __future__ import annotations

import re

_BOX = re.compile(r"\\f?box(?:ed)?(?=[\s{\d])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\d[\d.,]*")
_JOIN = re.compile(r"[\s$,;&*]*(?:and|or|\\text\{\s*(?:and|or)\s*\}|\\(?:quad|,|;|\)|\())?[\s$,;&*]*")
_LONGEST_JOIN = 40
_PHRASE = re.compile(
    r"(?:\banswer(?:\s+to\s+[^.:\n]{1,80}?)?(?:\*\*)?(?:\s+is\b(?:\s*:)?|\s*[:=])|答案(?:是|为|：|:))"
    r"(?:\*\*)?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\.(?=\s|\*|$)|[。\n]")
_MARKDOWN = " \t\r*_`"


def extract_answer(response: str) -> str | None:
    """The text of the answer that a response gives.

    Args:
        response: The whole completion, reasoning included.

    Returns:
        The answer without surrounding blanks, None where there is none or it is empty. Boxes joined
        by nothing but "and", "or" or a comma are one answer, a list.
    """
    text = _after_reasoning(response)
    if text is None:
        return None
    found = _tagged(text)
    if found is None:
        found = _boxed(text)
    if found is None:
        found = _phrased(text)
    return found.strip() or None if found is not None else None


def _after_reasoning(response: str) -> str | None:
    end = response.rfind("</think>")
    text = response if end < 0 else response[end + len("</think>") :]
    return None if "<think>" in text else text


def _tagged(text: str) -> str | None:
    end = text.rfind("</answer>")
    if end < 0:
        return None
    start = text.rfind("<answer>", 0, end)
    return None if start < 0 else text[start + len("<answer>") : end]


def _boxed(text: str) -> str | None:
    if "box" not in text:
        return None
    spans = _boxes(text)
    if not spans:
        return None
    parts = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not _joined(text[span.stop : parts[0].start]):
            break
        parts.insert(0, span)
    return ", ".join(part.content for part in parts)


class _Span:
    """A box: where its command starts and its closing brace ends, and what it holds."""

    __slots__ = ("content", "start", "stop")

    def __init__(self, start: int, stop: int, content: str) -> None:
        self.start, self.stop, self.content = start, stop, content


def _boxes(text: str) -> list[_Span]:
    """All closed outermost boxes, left to right, in one pass over the braces."""
    closing = _closing_braces(text)
    spans: list[_Span] = []
    for match in _BOX.finditer(text):
        if spans and match.start() < spans[-1].stop:
            continue
        opening = match.end()
        while opening < len(text) and text[opening].isspace():
            opening += 1
        if opening in closing:
            stop = closing[opening]
            spans.append(_Span(match.start(), stop + 1, text[opening + 1 : stop]))
        elif bare := _BARE.match(text, opening):
            spans.append(_Span(match.start(), bare.end(), bare.group().rstrip(".,")))
    return spans


def _closing_braces(text: str) -> dict[int, int]:
    """Where the brace opened at each position is closed; escaped braces do not group."""
    closing: dict[int, int] = {}
    open_braces: list[int] = []
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            open_braces.append(match.start())
        elif match.group() == "}" and open_braces:
            closing[open_braces.pop()] = match.start()
    return closing


def _joined(between: str) -> bool:
    if len(between) > _LONGEST_JOIN or _JOIN.fullmatch(between) is None:
        return False
    return any(mark in between for mark in ("and", "or", ",", ";", "&"))


def _phrased(text: str) -> str | None:
    start = _last_mark(text)
    if start is None:
        return None
    while start < len(text) and text[start].isspace():
        start += 1
    end = _SENTENCE_END.search(text, start)
    return text[start : end.start() if end else len(text)].strip(_MARKDOWN)


def _last_mark(text: str) -> int | None:
    hashes = text.rfind("#### ")
    marks = [match.end() for match in _PHRASE.finditer(text)]
    if hashes >= 0:
        marks.append(hashes + len("#### "))
    return max(marks, default=None)
