"""Answers that need no algebra: plain numbers and words, compared as text.

`canonical` writes an answer in one way; equal canonical texts are equal answers. Two plain integers
or two plain words that differ are different answers. Anything else is undecided here.
"""

from __future__ import annotations

import re

VERIFIER = "sdbench-exact/1"

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:(?:,|\\,|\{,\}|,\\!| |\\ |~)\d{3})+")
_INTEGER = re.compile(r"[+-]?\d+")
_WORD = re.compile(r"[a-z]{2,}(?: [a-z]+)*")
_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;!:]|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle")


def canonical(answer: str) -> str:
    """One way to write an answer; idempotent."""
    text = answer.strip().strip("$").strip()
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _THOUSANDS.fullmatch(text):
        return _integer(re.sub(r"[^\d+-]", "", text))
    text = _WRAPPER.sub(r"\1", text)
    text = _SPACING.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = " ".join(text.split()).rstrip(".").strip()
    if _INTEGER.fullmatch(text):
        return _integer(text)
    lowered = text.lower()
    return lowered if _WORD.fullmatch(lowered) else text


def decide(gold: str, answer: str) -> bool | None:
    """Whether two canonical answers are equal; None if that takes algebra."""
    if gold == answer:
        return True
    for plain in (_INTEGER, _WORD):
        if plain.fullmatch(gold) and plain.fullmatch(answer):
            return False
    return None


def _integer(text: str) -> str:
    sign = "-" if text[0] == "-" else ""
    digits = text.lstrip("+-").lstrip("0") or "0"
    return digits if digits == "0" else sign + digits
