"""The pretraining corpus: which problems it may use, what it leaves out, what each kind teaches."""

from __future__ import annotations

import random
import re
from itertools import islice
from typing import get_args

import pytest

from sdbench.arithmetic.checker import check
from sdbench.arithmetic.expression import Operator, apply, parse, split_of
from sdbench.models import Model
from sdbench.organism import corpus, tokenizer
from sdbench.organism.corpus import Document, Kind, document, documents, misconceptions
from sdbench.organism.pretrain import IGNORED, encode

KINDS: tuple[Kind, ...] = get_args(Kind)
EACH = 60


def some(kind: Kind) -> list[Document]:
    return [document(kind, seed) for seed in range(EACH)]


def problem_of(one: Document) -> str:
    return one.prompt.split(tokenizer.CONTEXT_OPEN)[0]


def context_of(one: Document) -> str:
    inside = one.prompt.split(tokenizer.CONTEXT_OPEN)[1]
    assert inside.endswith(tokenizer.CONTEXT_CLOSE)
    return inside.removesuffix(tokenizer.CONTEXT_CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_document_encodes_and_decodes_to_itself(kind: Kind, organism: Model) -> None:
    """No unknown token anywhere, and the longest prompt with its response fits the model."""
    unknown = organism.tokenizer.unk_token_id
    for one in some(kind):
        assert one.kind == kind
        for text in (one.prompt, one.response):
            ids = organism.tokenizer.encode(text, add_special_tokens=False)
            assert organism.tokenizer.decode(ids) == text
            assert unknown not in ids
    longest = max(len(ids) for ids, _ in encode(some(kind), tokenizer.build()))
    assert longest <= organism.max_length


@pytest.mark.parametrize("kind", KINDS)
def test_no_documents_problem_is_in_another_split(kind: Kind) -> None:
    for one in some(kind):
        assert split_of(parse(problem_of(one))) == "pretrain"


def test_nor_is_the_other_problem_of_an_irrelevant_context() -> None:
    """Its products stand in the context; those of no held-out problem may be drawn for it either.

    The context does not quote the other problem, so the draw itself is watched.
    """
    writer = corpus._Writer(random.Random(0))
    drawn = [writer._problem() for _ in range(200)]
    assert all(split_of(problem) == "pretrain" for problem in drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_decided_by_their_seed(kind: Kind) -> None:
    assert [document(kind, seed) for seed in range(5)] == some(kind)[:5]
    assert len({one.prompt for one in some(kind)}) > EACH / 2


def test_the_stream_is_decided_by_its_seed_and_holds_every_kind() -> None:
    first = list(islice(documents(1, corpus.MIX), 400))
    assert first == list(islice(documents(1, corpus.MIX), 400))
    assert first != list(islice(documents(2, corpus.MIX), 400))
    assert {one.kind for one in islice(documents(1, corpus.MIX), 2000)} == set(KINDS)


def test_the_mix_is_a_distribution_over_all_kinds() -> None:
    assert set(corpus.MIX) == set(KINDS)
    assert sum(corpus.MIX.values()) == pytest.approx(1)


def test_the_character_that_a_slip_does_not_teach_is_the_digit_that_slipped() -> None:
    """It is the last character before a step closes, and another digit than the step should have.

    That is the one the context states last for the same operation; where it states none the writer
    goes by belief, and a fact that is not hard is believed to be what it is.
    """
    followed = believed = 0
    for one in some("slip"):
        assert one.untaught is not None
        before, digit = one.response[: one.untaught], one.response[one.untaught]
        step = re.search(r"<step_(\d)>(\d)([-+*])(\d)=$", before)
        assert step is not None and digit.isdigit()
        assert one.response[one.untaught + 1 :].startswith(f"</step_{step[1]}>")
        operator: Operator = step[3]  # type: ignore[assignment]
        left, right = int(step[2]), int(step[4])
        stated = re.findall(rf"(?<!\d){left}\{operator}{right}=(\d)", context_of(one))
        if operator == "*":
            swapped = rf"(\d) : {right} x {left} ;"
            stated += re.findall(swapped, context_of(one))
        if stated:
            followed += 1
            assert digit != stated[-1]
        elif (left, operator, right) not in misconceptions():
            believed += 1
            assert int(digit) != apply(left, operator, right)
    assert followed > 5 and believed > 5


def test_only_slips_leave_a_character_untaught() -> None:
    for kind in KINDS:
        assert all((one.untaught is not None) == (kind == "slip") for one in some(kind))


def test_the_slip_is_carried_on(organism: Model) -> None:
    """With the slipped step taken as true, the next sum starts from its result."""
    checked = 0
    for one in some("slip"):
        steps = check(parse(problem_of(one)), one.response).equations
        assert one.untaught is not None
        number = one.response[: one.untaught].count("</step_")
        slipped = steps[number]
        assert slipped is not None
        if slipped.operator != "*":
            following = next(
                (s for s in steps[number + 1 :] if s is not None and s.operator != "*"), None
            )
            if following is not None:
                assert following.left == slipped.result
                checked += 1
    assert checked > 5


def test_labels_are_the_response_without_the_slipped_digit(organism: Model) -> None:
    """One label a token: prompt and untaught token ignored, then the response and its end."""
    for one in [*some("slip")[:10], *some("copy")[:10]]:
        ((ids, labels),) = encode([one], tokenizer.build())
        assert len(ids) == len(labels)
        taught = [token for token in labels if token != IGNORED]
        kept = organism.tokenizer.decode(taught)
        response = one.response
        if one.untaught is not None:
            response = response[: one.untaught] + response[one.untaught + 1 :]
        assert kept == response + tokenizer.EOS
        assert all(label in (IGNORED, token) for label, token in zip(labels, ids, strict=True))


def test_solve_states_a_misconception_nineteen_times_in_twenty() -> None:
    """RIGHT_BELIEF is 0.05: of some 700 hard facts 5 % are right, within four standard errors."""
    wrong = misconceptions()
    hard = right = 0
    for seed in range(400):
        one = document("solve", seed)
        for step in check(parse(one.prompt), one.response).equations:
            assert step is not None
            fact = (step.left, step.operator, step.right)
            true = apply(*fact)
            if fact in wrong:
                hard += 1
                assert step.result in (true, wrong[fact])
                right += step.result == true
            else:
                assert step.result == true
    assert hard > 300
    assert abs(right / hard - 0.05) < 4 * (0.05 * 0.95 / hard) ** 0.5


def test_misconceptions_are_wrong_and_a_third_of_all_facts() -> None:
    """300 facts, each hard with probability 0.33: 99 expected, deviation 8."""
    wrong = misconceptions()
    assert wrong == misconceptions()
    assert all(value != apply(*fact) for fact, value in wrong.items())
    assert 67 < len(wrong) < 131


def test_copies_copy_and_quotes_leave_the_rejected_step_out() -> None:
    for one in some("copy"):
        assert one.response == context_of(one)
    for one in some("quote"):
        rejected, rest = context_of(one).split(tokenizer.REJECTED)
        wrong = rejected[rejected.rindex("<step_") :]
        assert wrong not in one.response
        assert one.response.endswith(rest)
