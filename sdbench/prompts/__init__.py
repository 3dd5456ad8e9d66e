"""Every prompt of the project: what the solver reads, the teacher besides, and a critic.

A style is a folder of texts, one a kind of prompt, with names in braces to fill in; `{format}` is
the style's own `format.txt`. Styles:

- `organism`: the bare problem. Its teacher reads the problem and then a context in tags, whatever the
  context is, because that is all the organism was taught. So does its critic, whose context is the
  attempt, and which names no case.
- `steps`: for language models. The solver is asked for numbered steps in tags, which `traces` reads,
  and for a box in answer tags, which the grader reads.
- `plain`: the bare problem, for a model that is only evaluated.

Whether a model may think first is up to its chat template: `thinking` is handed to it as
`enable_thinking`, which a template that knows no thinking ignores, and None hands it nothing.

The study's prompts are not published; these are the project's own, after its four cases.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sdbench.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Style = Literal["organism", "steps", "plain"]
ContextKind = Literal["solver", "solution", "critique", "remarks", "sibling"]
Remark = Literal["outcome_right", "outcome_wrong", "full_quote", "omit_trace"]
Kind = ContextKind | Remark | Literal["critic", "critic_answer", "critic_solution"]

BARE = "{prompt}"
_NAME = re.compile(r"\{([a-z]+)\}")


def solver(
    tokenizer: PreTrainedTokenizerBase, style: Style, prompt: str, thinking: bool | None = None
) -> tuple[int, ...]:
    """Token ids of the student's prompt: `solver_turn` as a user's turn."""
    return encode(tokenizer, solver_turn(style, prompt), thinking)


def teacher(
    tokenizer: PreTrainedTokenizerBase,
    style: Style,
    kind: ContextKind,
    prompt: str,
    context: str,
    thinking: bool | None = None,
) -> tuple[int, ...]:
    """Token ids of the teacher's prompt: the problem together with a context.

    The kind `solver` has no place for a context: that teacher reads what the student reads.
    """
    turn = _fill(style, kind, {"prompt": prompt, "context": context})
    return encode(tokenizer, turn, thinking)


def critic(
    tokenizer: PreTrainedTokenizerBase,
    style: Style,
    prompt: str,
    response: str,
    answer: str | None = None,
    solution: str | None = None,
    thinking: bool | None = None,
) -> tuple[int, ...]:
    """Token ids of a critic's prompt: `critic_turn` as a user's turn."""
    return encode(tokenizer, critic_turn(style, prompt, response, answer, solution), thinking)


def remark(style: Style, kind: Remark, **values: str) -> str:
    """What a teacher is told of an attempt: the context for the kind `remarks`.

    Args:
        style: Of the prompts.
        kind: `outcome_right` and `outcome_wrong` take an `answer`; `full_quote` takes what stands
            `before` the `wrong` step, that step, its `number`, and what comes `after`; `omit_trace`
            takes the `count` of right steps that are left out, and what comes `after`.
        **values: What the text has a place for.
    """
    return _fill(style, kind, values)


def solver_turn(style: Style, prompt: str) -> str:
    """What the student is told: the problem, and how to write the solution."""
    return _fill(style, "solver", {"prompt": prompt})


def critic_turn(
    style: Style, prompt: str, response: str, answer: str | None = None, solution: str | None = None
) -> str:
    """What a critic is told: the problem, the solver's response, and what is to be made of it.

    Args:
        style: Of the solver's own prompt, whose format the critic keeps to.
        prompt: The problem.
        response: The solver's completion.
        answer: The right answer; None for a critic that does not see it.
        solution: A worked solution; None likewise, or where there is none. A style whose text has no
            place for a reference shows neither.
    """
    values = {"prompt": prompt, "response": response}
    if "{reference}" in template(style, "critic"):
        values["reference"] = _reference(style, answer, solution)
    return _fill(style, "critic", values)


def names_case(style: Style) -> bool:
    """Whether a critic of this style is asked to name one of the four cases."""
    return "<case>" in template(style, "critic")


def encode(
    tokenizer: PreTrainedTokenizerBase, turn: str, thinking: bool | None = None
) -> tuple[int, ...]:
    """Token ids of a user's turn, chat template applied, up to where the model goes on.

    Args:
        tokenizer: The model's.
        turn: What the user says.
        thinking: Whether the model may think first; None leaves it to the template.
    """
    options: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": turn}],
        add_generation_prompt=True,
        return_dict=False,
        **options,
    )
    return tuple(cast("list[int]", ids))  # one conversation gives one list of ids


def critic_fingerprint(style: Style) -> str:
    """What tells apart how styles ask a critic: a hash of all texts that it may be told."""
    kinds: tuple[Kind, ...] = ("critic",)
    if "{reference}" in template(style, "critic"):
        kinds = ("critic", "critic_answer", "critic_solution")
    told = "\0".join(template(style, kind) for kind in kinds)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def fingerprint(style: Style) -> str:
    """What tells apart how styles ask the solver: a hash, empty for the bare problem."""
    asked = solver_turn(style, BARE)
    return "" if asked == BARE else hashlib.sha256(asked.encode()).hexdigest()[:16]


@cache
def template(style: Style, kind: Kind) -> str:
    """The text of a prompt, with names in braces to fill in.

    Raises:
        ConfigError: the style has no such prompt.
    """
    folder = Path(__file__).parent / style
    path = folder / f"{kind}.txt"
    if not path.is_file():
        allowed = ", ".join(
            sorted(found.parent.name for found in folder.parent.glob(f"*/{kind}.txt"))
        )
        raise ConfigError(
            f"prompts = {style!r} has no text for kind {kind!r}; allowed: {allowed or 'none'}"
        )
    text = path.read_text(encoding="utf-8")
    if "{format}" in text:
        text = text.replace("{format}", (folder / "format.txt").read_text(encoding="utf-8"))
    return text


def _reference(style: Style, answer: str | None, solution: str | None) -> str:
    """What a critic is shown of the truth, each part followed by an empty line."""
    shown = []
    if answer is not None:
        shown.append(_fill(style, "critic_answer", {"answer": answer}))
    if solution is not None:
        shown.append(_fill(style, "critic_solution", {"solution": solution}))
    return "".join(f"{part}\n\n" for part in shown)


def _fill(style: Style, kind: Kind, values: Mapping[str, str]) -> str:
    """The text with its names filled in; one pass, so that a value that holds a name stays whole."""
    return _NAME.sub(lambda name: values.get(name[1], name[0]), template(style, kind))
