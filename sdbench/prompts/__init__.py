"""Every prompt of the project: what the solver reads, and what the teacher reads besides.

A style is a folder of texts, one a kind of context. The organism's teacher reads the problem and
then a context in tags, whatever the context is, because that is all the organism was taught.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Style = Literal["organism"]
ContextKind = Literal["solution", "critique"]


def solver(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[int, ...]:
    """Token ids of the student's prompt: the problem as a user's turn, chat template applied."""
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return tuple(cast("list[int]", ids))  # one conversation gives one list of ids


def teacher(
    tokenizer: PreTrainedTokenizerBase, style: Style, kind: ContextKind, prompt: str, context: str
) -> tuple[int, ...]:
    """Token ids of the teacher's prompt: the problem together with a context."""
    # One pass over the text, so that a context that holds a placeholder stays as it is.
    before, after = template(style, kind).split("{context}")
    content = before.replace("{prompt}", prompt) + context + after.replace("{prompt}", prompt)
    return solver(tokenizer, content)


@cache
def template(style: Style, kind: ContextKind) -> str:
    """The text of a prompt, with `{prompt}` and `{context}` to fill in."""
    return (Path(__file__).parent / style / f"{kind}.txt").read_text(encoding="utf-8")
