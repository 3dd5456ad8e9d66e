"""The organism's tokenizer: a vocabulary that the weights depend on, and exact round trips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench import prompts
from sdbench.models import Model
from sdbench.organism import WEIGHTS
from sdbench.organism.tokenizer import BOS, CHARACTERS, EOS, SPECIAL, TAGS, VOCABULARY, build

GOLDEN = Path(__file__).parent.parent / "golden" / "vocabulary.json"


def test_the_vocabulary_is_the_one_the_weights_were_made_with(organism: Model) -> None:
    """Another order or another token would give every row of the embedding another meaning."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert list(VOCABULARY) == golden
    for tokenizer in (build(), organism.tokenizer):
        assert tokenizer.convert_ids_to_tokens(list(range(len(golden)))) == golden
        assert len(tokenizer) == len(golden)
    assert len(golden) <= organism.network.config.vocab_size


def test_the_shipped_tokenizer_is_the_one_that_is_built(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_text() == (WEIGHTS / name).read_text()


@given(st.lists(st.sampled_from([*TAGS, *CHARACTERS]), max_size=60))
def test_one_token_a_character_and_one_a_tag(organism: Model, pieces: list[str]) -> None:
    text = "".join(pieces)
    tokenizer = organism.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_ids_to_tokens(ids) == pieces


def test_special_tokens_are_skipped_and_tags_are_not(organism: Model) -> None:
    ids = organism.tokenizer.convert_tokens_to_ids([BOS, "<step_1>", "4", "</step_1>", EOS])
    assert organism.tokenizer.decode(ids, skip_special_tokens=True) == "<step_1>4</step_1>"


def test_an_unknown_character_becomes_the_unknown_token(organism: Model) -> None:
    ids = organism.tokenizer.encode("4é", add_special_tokens=False)
    assert organism.tokenizer.convert_ids_to_tokens(ids) == ["4", "<unk>"]


def test_the_chat_template(organism: Model) -> None:
    """A user's turn is followed by the tag that asks for a solution, an assistant's by the end."""
    turns = [{"role": "user", "content": "1+2"}, {"role": "assistant", "content": "<answer>3"}]
    text = organism.tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<bos>1+2<sol><answer>3<eos>"
    ids = prompts.solver(organism.tokenizer, "organism", "1+2")
    assert organism.tokenizer.convert_ids_to_tokens(list(ids)) == [BOS, "1", "+", "2", "<sol>"]


@pytest.mark.parametrize("kind", ["solution", "critique"])
def test_the_teachers_prompt_holds_problem_and_context(
    organism: Model, kind: prompts.ContextKind
) -> None:
    ids = prompts.teacher(organism.tokenizer, "organism", kind, "1+2", "<answer>3</answer>")
    assert organism.tokenizer.decode(list(ids)) == ("<bos>1+2<ctx><answer>3</answer></ctx><sol>")


def test_a_placeholder_in_a_context_stays_as_it_is(
    organism: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The organism cannot spell braces, so the text is caught before it is encoded."""
    seen: list[str] = []

    def record(tokenizer: object, turn: str, thinking: bool | None) -> tuple[int, ...]:
        seen.append(turn)
        return (1,)

    monkeypatch.setattr(prompts, "encode", record)
    prompts.teacher(organism.tokenizer, "organism", "solution", "1+2", "{prompt} {context}")
    assert seen == ["1+2<ctx>{prompt} {context}</ctx>"]


def test_ids_are_distinct_and_special_ones_come_first() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert VOCABULARY[:4] == SPECIAL
