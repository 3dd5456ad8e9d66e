"""Invariants of traces: join and parse are inverse, spans point into the text, any text parses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdbench.models import Model
from sdbench.organism.tokenizer import CHARACTERS, TAGS
from sdbench.traces import join, parse, token_ends, token_span

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
