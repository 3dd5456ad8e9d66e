"""The engine for small models: what it draws depends on the key alone, and is the model's own."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdbench import prompts
from sdbench.arithmetic.expression import sample
from sdbench.arithmetic.worked import reference_solution
from sdbench.engines import hf
from sdbench.engines.base import Request, Sampling, generate, uniforms
from sdbench.engines.hf import HFEngine
from sdbench.errors import EngineError
from sdbench.models import Model, completion_logits, student_view
from sdbench.records import Completion, FinishReason

SAMPLING = Sampling(temperature=1.0, max_tokens=96, seed=7)


@pytest.fixture(scope="module")
def requests(organism: Model) -> list[Request]:
    """Prompts of four lengths: problems with one and two products, and two with a context."""
    made = []
    for seed in range(6):
        problem = sample(random.Random(seed))
        context = reference_solution(problem)[: 20 * (seed % 3)]
        ids = (
            prompts.teacher(organism.tokenizer, "organism", "solution", problem.text, context)
            if seed % 2
            else prompts.solver(organism.tokenizer, "organism", problem.text)
        )
        made.append(Request(problem.text, ids, (0, 1, 5)))
    assert len({len(request.prompt_ids) for request in made}) >= 4
    return made


@pytest.fixture(scope="module")
def engine(organism: Model) -> HFEngine:
    return hf.build(hf.Config(), organism)


@pytest.fixture(scope="module")
def drawn(engine: HFEngine, requests: list[Request]) -> list[Completion]:
    return generate(engine, requests, SAMPLING)


def assert_same(found: list[Completion], expected: list[Completion]) -> None:
    """Equal but for the last bits of the log-probabilities."""
    assert [(c.request_id, c.index) for c in found] == [(c.request_id, c.index) for c in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("batch_rows", [1, 5, 64])
def test_the_batch_size_changes_no_completion(
    organism: Model, requests: list[Request], drawn: list[Completion], batch_rows: int
) -> None:
    """A batch of 5 cuts through the three samples of a prompt."""
    other = hf.build(hf.Config(batch_rows=batch_rows), organism)
    assert_same(generate(other, requests, SAMPLING), drawn)


def test_the_order_of_requests_changes_no_completion(
    engine: HFEngine, requests: list[Request], drawn: list[Completion]
) -> None:
    shuffled = random.Random(0).sample(requests, len(requests))
    by_key = {(c.request_id, c.index): c for c in drawn}
    expected = [by_key[r.id, index] for r in shuffled for index in r.indices]
    assert_same(generate(engine, shuffled, SAMPLING), expected)


def test_samples_of_one_prefill_are_those_of_single_requests(
    engine: HFEngine, requests: list[Request], drawn: list[Completion]
) -> None:
    single = [
        completion
        for request in requests
        for index in request.indices
        for completion in generate(
            engine, [Request(request.id, request.prompt_ids, (index,))], SAMPLING
        )
    ]
    assert_same(single, drawn)


def test_samples_differ_by_index_by_id_and_by_seed(
    engine: HFEngine, requests: list[Request]
) -> None:
    """At temperature 5 forty tokens that agree by chance would be a wonder."""
    ids = requests[0].prompt_ids
    hot = Sampling(5.0, 40, 7)
    base = generate(engine, [Request("a", ids, (0, 1)), Request("b", ids, (0,))], hot)
    seeded = generate(engine, [Request("a", ids, (0,))], Sampling(5.0, 40, 8))
    assert len({completion.token_ids for completion in (*base, *seeded)}) == 4


def test_log_probabilities_are_those_of_a_teacher_forced_pass(
    organism: Model, requests: list[Request], drawn: list[Completion]
) -> None:
    """Read in one pass without cache or left padding; at temperature 2 as well."""
    hot = Sampling(2.0, 30, 1)
    for sampling, found in (
        (SAMPLING, drawn),
        (hot, generate(hf.build(hf.Config(), organism), requests, hot)),
    ):
        ids = {request.id: request.prompt_ids for request in requests}
        for one in found:
            view = student_view(ids[one.request_id], one.token_ids)
            with torch.no_grad():
                logits_NV = completion_logits(organism.network, [view]) / sampling.temperature
            forced = logits_NV.log_softmax(-1)[range(len(one.token_ids)), list(one.token_ids)]
            assert one.logprobs == pytest.approx(forced.tolist(), abs=1e-4)


def test_temperature_zero_is_greedy_decoding_as_transformers_does_it(
    organism: Model, engine: HFEngine, requests: list[Request]
) -> None:
    greedy = Sampling(0.0, 60, 0)
    found = generate(engine, [Request(r.id, r.prompt_ids, (0,)) for r in requests], greedy)
    for one, request in zip(found, requests, strict=True):
        input_ids = torch.tensor([request.prompt_ids])
        output = organism.network.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            do_sample=False,
            max_new_tokens=60,
        )
        assert list(one.token_ids) == output[0, len(request.prompt_ids) :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_first_tokens_are_distributed_as_the_softmax_says(
    organism: Model, engine: HFEngine, temperature: float
) -> None:
    """4,000 draws with fixed keys against the model's probabilities, Pearson's chi-square.

    Tokens expected less than 5 times are one cell. With d degrees of freedom the statistic has mean d
    and deviation sqrt(2 d); a right sampler exceeds d + 4 sqrt(2 d) about once in 2,000 seeds, and
    this seed is fixed. One that ignored the temperature would be off by thousands.
    """
    draws = 4000
    prompt_ids = (
        *prompts.solver(organism.tokenizer, "organism", "9-7*7+3-2*6"),
        *organism.tokenizer.encode("<step_1>", add_special_tokens=False),
    )
    request = Request("frequencies", prompt_ids, tuple(range(draws)))
    found = generate(engine, [request], Sampling(temperature, 1, 0))
    counts = np.bincount([c.token_ids[0] for c in found], minlength=64)
    with torch.no_grad():
        logits_V = organism.network(torch.tensor([prompt_ids])).logits[0, -1].double()
    expected = draws * (logits_V / temperature).softmax(-1).numpy()
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    freedom = len(wanted) - 1
    assert freedom >= 5
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


def test_an_overlong_prompt_is_refused_by_name(engine: HFEngine, organism: Model) -> None:
    """512 positions in all: 417 for the prompt leave room for 95 tokens, not for 96."""
    fits = Request("fits", (1,) * 416, (0,))
    exceeds = Request("train:1+2*3+4+5", (1,) * 417, (0,))
    assert organism.max_length == 512
    with pytest.raises(EngineError, match=r"train:1\+2\*3\+4\+5 has 417 tokens.*96.*512"):
        generate(engine, [fits, exceeds], SAMPLING)
    assert generate(engine, [fits], Sampling(0.0, 1, 0))[0].request_id == "fits"


def test_finish_reasons(engine: HFEngine, organism: Model, drawn: list[Completion]) -> None:
    """Whoever stopped has the end-of-text token last and nowhere else, and not in the text."""
    (end,) = organism.end_ids
    assert any(c.finish_reason is FinishReason.STOP for c in drawn)
    for one in drawn:
        assert (one.token_ids[-1] == end) == (one.finish_reason is FinishReason.STOP)
        assert end not in one.token_ids[:-1]
        assert "<eos>" not in one.text


def test_the_cap_cuts_and_says_so(
    engine: HFEngine, requests: list[Request], drawn: list[Completion]
) -> None:
    """The first three tokens are the same as without the cap."""
    cut = generate(engine, requests, Sampling(1.0, 3, 7))
    for short, whole in zip(cut, drawn, strict=True):
        assert short.token_ids == whole.token_ids[:3]
        stopped = len(whole.token_ids) <= 3
        assert (short.finish_reason is FinishReason.STOP) == stopped


def test_training_mode_is_as_it_was(organism: Model, engine: HFEngine) -> None:
    request = Request("a", prompts.solver(organism.tokenizer, "organism", "1+2*3+4+5"), (0,))
    organism.network.train()
    try:
        generate(engine, [request], Sampling(1.0, 2, 0))
        assert organism.network.training
    finally:
        organism.network.eval()


@given(st.integers(0, 2**32), st.text(max_size=8), st.integers(0, 100), st.integers(1, 64))
def test_uniform_draws_are_a_function_of_their_key(
    seed: int, request_id: str, index: int, length: int
) -> None:
    """A lower token cap gives the first of the same numbers."""
    draws = uniforms(Sampling(1.0, length, seed), request_id, index)
    again = uniforms(Sampling(0.5, length + 3, seed), request_id, index)
    assert np.array_equal(draws, again[:length])
    assert ((draws >= 0) & (draws < 1)).all()
    assert not np.array_equal(draws, uniforms(Sampling(1.0, length, seed), request_id, index + 1))
