"""What the audit keeps to: exact critiques pass it, any damage shows, and any text can be read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from sdbench import traces
from sdbench.arithmetic.expression import Expression, Operator, apply, sample
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.audit import (
    Gate,
    Judgement,
    claimed,
    common,
    examine,
    kept,
    read_off,
    stands_for,
    tokens,
    verbatim,
)
from sdbench.critics import oracle
from sdbench.critics.model import parse
from sdbench.records import Attempt, Critique, CritiqueCase

MakeAttempt = Callable[[Expression, str, int], Attempt]

SEEDS = st.integers(0, 2**32)
TAGGED = st.text(alphabet="0123+=/ abx\\.<>\n", max_size=30)
ANYTHING = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["<case>D</case>", "<case>A", "</think>", "<think>", "<answer>7</answer>"]
            + [f"<{slash}step_{n}>" for n in (1, 2, 3) for slash in ("", "/")]
        ),
    ),
    max_size=14,
).map("".join)


def trace_with_errors(seed: int, rate: float) -> tuple[Expression, str]:
    """A problem, and a solution in which each result is wrong with this probability."""
    rng = random.Random(seed)
    problem = sample(rng)

    def compute(left: int, operator: Operator, right: int) -> int:
        value = apply(left, operator, right)
        return (value + rng.randint(1, 9)) % 10 if rng.random() < rate else value

    order = rng.choice([*Order])
    return problem, write_solution(carry_out(problem, plan(problem, order), compute))


@given(SEEDS, st.sampled_from([0.0, 0.2, 0.6]), st.floats(0, 1))
def test_the_exact_critics_critiques_always_pass(
    attempt_at: MakeAttempt, seed: int, rate: float, cut: float
) -> None:
    """Whole traces and cut ones; nothing is left out, quoted or leaked, and every claim is right."""
    problem, whole = trace_with_errors(seed, rate)
    for text in (whole, whole[: int(cut * len(whole))]):
        attempt = attempt_at(problem, text, 0)
        (critique,) = oracle.Oracle().critique([attempt])
        truth = Judgement(critique.first_wrong_step, critique.case)
        found = examine(attempt, critique, answer_right=True, truth=truth)
        assert Gate(verbatim=1).faults(found) == ()
        assert found.verbatim in (None, 1)
        assert not found.quoted and not found.leaked
        assert found.first_error_right and found.case_right


@given(SEEDS, st.sampled_from([0.2, 0.6]), SEEDS)
def test_one_other_token_in_the_prefix_lowers_the_share(
    attempt_at: MakeAttempt, seed: int, rate: float, damage: int
) -> None:
    problem, text = trace_with_errors(seed, rate)
    attempt = attempt_at(problem, text, 0)
    (critique,) = oracle.Oracle().critique([attempt])
    assume(critique.first_wrong_step is not None and critique.first_wrong_step > 1)
    rng = random.Random(damage)
    steps = list(traces.parse(critique.text).steps)
    place = rng.randrange((critique.first_wrong_step or 2) - 1)
    changed = list(tokens(steps[place].content))
    changed[rng.randrange(len(changed))] = "?"
    contents = [s.content if n != place else "".join(changed) for n, s in enumerate(steps)]
    answer = traces.parse(critique.text).answer
    damaged = Critique(
        attempt.rollout.id,
        "damaged",
        critique.case,
        traces.join(contents, answer),
        critique.first_wrong_step,
    )
    found = examine(attempt, damaged, answer_right=True)
    assert found.verbatim is not None
    prefix = sum(len(tokens(s.content)) for s in steps[: (critique.first_wrong_step or 1) - 1])
    assert abs(found.verbatim - (1 - 1 / prefix)) < 1e-9


@given(SEEDS, st.sampled_from([0.2, 0.6]))
def test_a_copied_error_is_seen(attempt_at: MakeAttempt, seed: int, rate: float) -> None:
    problem, text = trace_with_errors(seed, rate)
    attempt = attempt_at(problem, text, 0)
    (critique,) = oracle.Oracle().critique([attempt])
    assume(critique.case is CritiqueCase.INCORRECT)
    copied = Critique(attempt.rollout.id, "copied", CritiqueCase.CORRECT, text, None)
    truth = Judgement(critique.first_wrong_step, critique.case)
    found = examine(attempt, copied, answer_right=False, truth=truth)
    wrong = (critique.first_wrong_step or 0) <= len(traces.parse(text).steps)
    assert found.quoted is (True if wrong else None)
    assert (found.first_error_right, found.case_right) == (False, False)


def longest(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of a longest common subsequence, by the table."""
    row = [0] * (len(second) + 1)
    for one in first:
        before = row
        row = [0]
        for index, other in enumerate(second):
            best = max(row[-1], before[index + 1])
            row.append(before[index] + 1 if one == other else best)
    return row[-1]


@given(st.lists(st.sampled_from("abc"), max_size=90), st.lists(st.sampled_from("abc"), max_size=90))
def test_the_bits_count_what_the_table_counts(first: list[str], second: list[str]) -> None:
    assert common(first, second) == longest(first, second)
    assert common(first, first) == len(first)


@given(st.lists(TAGGED, max_size=4))
def test_a_copy_is_verbatim_and_stands(contents: list[str]) -> None:
    trace = traces.parse(traces.join([one.replace("<", "") for one in contents], "7"))
    assert verbatim(trace.steps, trace.steps) in (None, 1)
    assert kept(trace, trace) == len(trace.steps)
    assert claimed(trace, trace, CritiqueCase.INCORRECT) == len(trace.steps) + 1
    assert read_off(trace, trace) is CritiqueCase.CORRECT


@given(TAGGED, TAGGED)
def test_to_stand_for_another_goes_both_ways(first: str, second: str) -> None:
    assert stands_for(first, second) == stands_for(second, first)
    assert stands_for(first, first)


@given(st.text(max_size=60))
def test_white_space_between_tokens_is_none(text: str) -> None:
    found = tokens(text)
    assert tokens(" \n".join(found)) == found


@given(ANYTHING, ANYTHING, st.booleans())
def test_any_text_can_be_read_and_audited(
    attempt_at: MakeAttempt, own: str, given_: str, cased: bool
) -> None:
    """What a critic wrote is a critique or it is not; the claimed step is one that can be there."""
    attempt = attempt_at(sample(random.Random(0)), "", 0)
    attempt = replace(attempt, rollout=replace(attempt.rollout, text=own))
    written = parse(given_, cased=cased)
    if written is None:
        return
    assert (written.case is None) == (not cased)
    trace = traces.parse(traces.said(own))
    case = written.case or read_off(trace, written.trace)
    wrong = claimed(trace, written.trace, case)
    assert wrong is None or 1 <= wrong <= len(trace.steps) + 1
    critique = Critique(attempt.rollout.id, "any", case, written.trace.text, wrong)
    found = examine(attempt, critique, answer_right=None)
    assert found.parsed
    assert found.verbatim is None or 0 <= found.verbatim <= 1
