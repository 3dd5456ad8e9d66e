"""Invariants of traces: join and parse are inverse, spans point into the text, any text parses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.models import Model
from sdbench.organism.tokenizer import CHARACTERS, TAGS
from sdbench.traces import join, parse, step_roles, token_ends, token_span

CONTENTS = st.lists(st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"])))
ANSWERS = st.none() | st.text(st.characters(exclude_characters="<")).map(str.strip)
PIECES = st.sampled_from([*TAGS, "<step_", "</answer", ">", "<", "\n", " ", "é", "1", "<step_9>"])
TAGGED = st.lists(PIECES | st.text(max_size=3), max_size=20).map("".join)
WRITTEN = st.lists(st.sampled_from([*TAGS, *CHARACTERS]), min_size=1, max_size=40)


@given(CONTENTS, ANSWERS)
def test_parse_reads_back_what_join_writes(steps: list[str], answer: str | None) -> None:
    trace = parse(join(steps, answer))
    assert [step.content for step in trace.steps] == steps
    assert [step.number for step in trace.steps] == list(range(1, len(steps) + 1))
    assert trace.answer == answer
    assert trace.end == len(trace.text)
    assert trace.well_formed == (bool(steps) and answer is not None)


@given(TAGGED)
def test_any_text_parses_and_its_spans_point_into_it(text: str) -> None:
    trace = parse(text)
    assert trace.text == text
    assert 0 <= trace.end <= len(text)
    position = 0
    for number, step in enumerate(trace.steps, 1):
        assert step.number == number
        assert position <= step.start < step.end <= trace.end
        assert not text[position : step.start].strip()
        written = text[step.start : step.end]
        assert written.startswith("<step_") and step.content in written
        assert written.endswith(">" if step.closed else step.content)
        position = step.end
    assert all(step.closed for step in trace.steps[:-1])


@given(TAGGED)
def test_what_was_read_reads_the_same_alone(text: str) -> None:
    """The part up to `end` holds all that was read."""
    trace = parse(text)
    again = parse(text[: trace.end])
    assert (again.steps, again.answer, again.end) == (trace.steps, trace.answer, trace.end)


@given(WRITTEN)
def test_tokens_partition_the_text(organism: Model, pieces: list[str]) -> None:
    """With one token a piece, the ends are the running sums of the pieces' lengths."""
    vocabulary = organism.tokenizer.get_vocab()
    ends = token_ends([vocabulary[piece] for piece in pieces], organism.decode)
    assert ends == [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]


@given(st.text(min_size=1, max_size=12), st.data())
def test_a_span_covers_its_characters_and_no_token_beside(text: str, data: st.DataObject) -> None:
    """Bytes as tokens; replacement characters apart, which stand for nothing decodable."""
    text = text.replace("\ufffd", "?")
    raw = text.encode("utf-8", errors="replace")
    text = raw.decode()
    ends = token_ends(list(raw), lambda ids: bytes(ids).decode("utf-8", errors="replace"))
    assert ends == sorted(ends) and ends[-1] == len(text)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    span = token_span(ends, start, end)
    before = ends[span.start - 1] if span.start else 0
    assert before == start
    assert ends[span.stop - 1] == end


def ends_by_definition(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """Every prefix decoded on its own: a character counts at the token that completes it."""
    ends: list[int] = []
    for count in range(1, len(ids) + 1):
        text = decode(ids[:count])
        whole = text if count == len(ids) else text.rstrip("\ufffd")
        ends.append(max([len(whole), *ends[-1:]]))
    return ends


@given(st.lists(st.integers(0, 63), max_size=120))
def test_token_ends_are_those_of_every_prefix(organism: Model, ids: list[int]) -> None:
    """Any tokens of the organism, those that write nothing and that end a text among them."""
    assert token_ends(ids, organism.decode) == ends_by_definition(ids, organism.decode)


@pytest.fixture(scope="module")
def byte_pairs() -> Callable[[Sequence[int]], str]:
    """A byte-level BPE whose pieces cut through characters, with a token that is skipped."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken("<end>", special=True)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["aé€ 𝄞b <step_1>√2</step_1> " * 3, "每一步 都对"], trainer)

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    return decode


@given(st.data())
def test_token_ends_of_characters_in_pieces(
    byte_pairs: Callable[[Sequence[int]], str], data: st.DataObject
) -> None:
    """Bytes in any order, most of which make no character, and real text in between."""
    real = st.text("aé€𝄞√每步 <>_1", max_size=10).map(
        lambda text: [one for one in range(300) for _ in text if byte_pairs([one]) in text][:40]
    )
    parts = data.draw(st.lists(real | st.lists(st.integers(0, 299), max_size=20), max_size=6))
    ids = [one for part in parts for one in part]
    assert token_ends(ids, byte_pairs) == ends_by_definition(ids, byte_pairs)


@given(TAGGED, st.data())
def test_roles_follow_one_another(text: str, data: st.DataObject) -> None:
    """What is right comes first, then the wrong step, then the rest; one role a token."""
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    roles = step_roles(text, ends, data.draw(st.none() | st.integers(1, 4)))
    assert len(roles) == len(ends)
    order = ["correct", "first_wrong", "later"]
    assert [order.index(role) for role in roles] == sorted(order.index(role) for role in roles)
