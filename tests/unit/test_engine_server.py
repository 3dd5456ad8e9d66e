"""The server engine against a real HTTP server in this process, scripted to behave in many ways."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from sdbench import models, prompts
from sdbench.engines import server
from sdbench.engines.base import Request, Sampling, generate
from sdbench.errors import ConfigError, EngineError
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

Json = dict[str, Any]
SAMPLING = Sampling(temperature=1.0, max_tokens=12, seed=0)
PROBLEMS = {"b": "1+2*3+4+5", "a": "1*2+3-4*5+6", "c": "9-8+7*6+5"}
NAME = "solver"
PATIENCE = 10.0


@dataclass(frozen=True)
class Answer:
    """What the server sends; a status of 0 drops the connection, `hang` waits for the test's end."""

    body: Json | str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


@dataclass
class Script:
    """How the server behaves, and what it has seen.

    `answer` gets the number of the attempt at this very body, from 0, and the body.
    """

    answer: Callable[[int, Json], Answer]
    models: Answer = field(default_factory=lambda: Answer({"data": [{"id": NAME}]}))
    url: str = ""
    seen: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    answered: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def begin(self, path: str, key: str | None, body: Json) -> int:
        with self.lock:
            self.paths.append(path)
            self.keys.append(key)
            self.seen.append(body)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            name = json.dumps(body, sort_keys=True)
            self.attempts[name] = self.attempts.get(name, -1) + 1
            return self.attempts[name]

    def end(self) -> None:
        with self.lock:
            self.in_flight -= 1
            self.answered += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:
        self._send(self.script.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        attempt = self.script.begin(self.path, self.headers["Authorization"], body)
        try:
            answer = self.script.answer(attempt, body)
            if answer.hang:
                self.script.over.wait(PATIENCE)
        finally:
            self.script.end()
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.status == 0:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        try:
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(text))}
            for name, value in (headers | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


Serve = Callable[..., Script]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers; they end with the test. Back-off is as short as openai's own code allows."""
    from openai import _base_client

    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.01)
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running: list[tuple[Script, ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Callable[[int, Json], Answer], **options: Any) -> Script:
        script = Script(answer, **options)
        handler = type("Handler", (_Handler,), {"script": script})
        http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        http.daemon_threads = True
        http.block_on_close = False
        script.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        running.append((script, http, thread))
        return script

    yield start
    for script, http, thread in running:
        script.over.set()
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture(scope="module")
def requests(organism: Model) -> list[Request]:
    indices = {"b": (0, 1, 2), "a": (3,), "c": (1, 0)}
    return [
        Request(name, prompts.solver(organism.tokenizer, "organism", text), indices[name], text)
        for name, text in PROBLEMS.items()
    ]


@pytest.fixture
def one(requests: list[Request]) -> list[Request]:
    """A single sample."""
    return [Request("a", requests[1].prompt_ids, (3,), PROBLEMS["a"])]


def reply(organism: Model, body: Json, **changes: Any) -> Json:
    """What vLLM answers: the seed's digits as text, so that each seed has its own completion."""
    text = f"<answer>{body['seed'] % 10}</answer>"
    ids = (*organism.tokenizer.encode(text, add_special_tokens=False), organism.end_ids[0])
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "token_ids": list(ids) if body.get("return_token_ids") else None,
    }
    scores = [-float(n) for n in range(len(ids))]
    if "messages" in body:
        choice["message"] = {"role": "assistant", "content": text}
        content = [{"token": "", "logprob": score} for score in scores]
        choice["logprobs"] = {"content": content} if body.get("logprobs") else None
    else:
        choice["text"] = text
        choice["logprobs"] = {"token_logprobs": scores} if "logprobs" in body else None
    return {"choices": [choice | changes], "usage": {"completion_tokens": len(ids)}}


def ok(organism: Model) -> Callable[[int, Json], Answer]:
    return lambda attempt, body: Answer(reply(organism, body))


def engine(script: Script, model: Model, **options: Any) -> server.ServerEngine:
    return server.build(server.Config(url=script.url, served_name=NAME, **options), model)


def open_clients() -> int:
    """HTTP clients of openai's that nobody has closed."""
    from openai import AsyncOpenAI

    gc.collect()
    clients = (one for one in gc.get_objects() if issubclass(type(one), AsyncOpenAI))
    return sum(not one.is_closed() for one in clients)


def by_key(completions: list[Completion]) -> dict[tuple[str, int], Completion]:
    return {(one.request_id, one.index): one for one in completions}


def test_every_sample_comes_once_as_the_server_wrote_it(
    serve: Serve, organism: Model, requests: list[Request]
) -> None:
    script = serve(ok(organism))
    found = list(engine(script, organism).stream(requests, SAMPLING))
    wanted = {("b", 0), ("b", 1), ("b", 2), ("a", 3), ("c", 0), ("c", 1)}
    assert len(found) == 6 and {(c.request_id, c.index) for c in found} == wanted
    assert set(script.paths) == {"/v1/completions"} and len(script.seen) == 6
    seeds = {
        (request.id, index): server._seed(SAMPLING, request.id, index)
        for request in requests
        for index in request.indices
    }
    for key, one in by_key(found).items():
        text = f"<answer>{seeds[key] % 10}</answer>"
        ids = (*organism.tokenizer.encode(text, add_special_tokens=False), organism.end_ids[0])
        assert (one.text, one.token_ids, one.tokens) == (text, ids, len(ids))
        assert one.logprobs == tuple(-float(n) for n in range(len(ids)))
        assert one.finish_reason is FinishReason.STOP


def test_a_request_holds_the_prompt_and_turns_off_the_servers_own_settings(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(ok(organism))
    generate(engine(script, organism), one, SAMPLING)
    (body,) = script.seen
    assert body == {
        "model": NAME,
        "prompt": list(one[0].prompt_ids),
        "seed": server._seed(SAMPLING, "a", 3),
        "temperature": 1.0,
        "max_tokens": 12,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": list(organism.end_ids),
        "return_token_ids": True,
        "logprobs": 1,
    }


def test_without_extensions_only_openais_own_fields_are_sent(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(ok(organism))
    sampling = Sampling(temperature=0.6, max_tokens=12, seed=0, logprobs=False)
    (found,) = generate(engine(script, organism, extensions=False), one, sampling)
    own = {"model", "prompt", "seed", "temperature", "max_tokens", "top_p"}
    assert set(script.seen[0]) == own
    assert found.token_ids == () and found.logprobs == ()
    assert found.tokens == len(organism.tokenizer.encode(found.text, add_special_tokens=False)) + 1


def test_seeds_belong_to_request_and_index_alone(
    serve: Serve, organism: Model, requests: list[Request], one: list[Request]
) -> None:
    script = serve(ok(organism))
    solver = engine(script, organism)
    generate(solver, requests, SAMPLING)
    seeds = [body["seed"] for body in script.seen]
    assert len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    generate(solver, one, SAMPLING)
    alone = script.seen[-1]
    assert alone in script.seen[:6]
    generate(solver, one, Sampling(temperature=1.0, max_tokens=12, seed=1))
    assert script.seen[-1]["seed"] != alone["seed"]


def test_completions_come_as_they_end_and_do_not_depend_on_order(
    serve: Serve, organism: Model, requests: list[Request]
) -> None:
    """The server lets one answer go at a time: in one order, then in the other."""
    seeds = sorted(server._seed(SAMPLING, r.id, index) for r in requests for index in r.indices)
    gates: dict[int, threading.Event] = {}

    def answer(attempt: int, body: Json) -> Answer:
        assert gates[body["seed"]].wait(PATIENCE)
        return Answer(reply(organism, body))

    def draw(asked: list[Request], order: list[int]) -> list[Completion]:
        gates.update({seed: threading.Event() for seed in order})
        gates[order[0]].set()
        found = []
        for one, following in zip(
            solver.stream(asked, SAMPLING), [*order[1:], order[0]], strict=True
        ):
            found.append(one)
            gates[following].set()
        return found

    solver = engine(serve(answer), organism)
    first, second = draw(requests, seeds), draw(requests[::-1], seeds[::-1])
    assert [server._seed(SAMPLING, c.request_id, c.index) for c in first] == seeds
    assert [server._seed(SAMPLING, c.request_id, c.index) for c in second] == seeds[::-1]
    assert by_key(first) == by_key(second)


def test_nothing_asked_needs_no_server(organism: Model, requests: list[Request]) -> None:
    unreachable = server.build(server.Config(url="http://127.0.0.1:9/v1"), organism)
    assert generate(unreachable, [], SAMPLING) == []
    assert generate(unreachable, [Request("a", requests[0].prompt_ids, ())], SAMPLING) == []


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_requests_are_under_way_as_allowed_and_no_more(
    serve: Serve, organism: Model, most: int
) -> None:
    """No answer goes before so many requests wait for theirs; nine samples are whole rounds."""
    barrier = threading.Barrier(most)

    def answer(attempt: int, body: Json) -> Answer:
        time.sleep(0.02)  # Others that should not be there get the time to come.
        barrier.wait(PATIENCE)
        return Answer(reply(organism, body))

    script = serve(answer)
    many = [Request("a", (1, 2), tuple(range(9)))]
    assert len(generate(engine(script, organism, concurrency=most), many, SAMPLING)) == 9
    assert script.most_in_flight == most


def test_chat_sends_the_users_turn_and_needs_no_tokenizer(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(ok(organism))
    bare = Model("far/away", "float32", None, None)  # type: ignore[arg-type]  # it has none
    chat = server.build(server.Config(url=script.url, api="chat"), bare)
    (found,) = generate(chat, [Request("a", (), (3,), "1*2+3-4*5+6")], SAMPLING)
    body = script.seen[0]
    assert script.paths == ["/v1/chat/completions"]
    assert body["messages"] == [{"role": "user", "content": "1*2+3-4*5+6"}]
    assert body["logprobs"] is True and not {"prompt", "stop_token_ids"} & set(body)
    assert body["model"] == "far/away"
    (same,) = generate(engine(script, organism), one, SAMPLING)
    assert found == same


def test_chat_refuses_a_request_without_the_users_turn(organism: Model) -> None:
    chat = server.build(server.Config(api="chat"), organism)
    with pytest.raises(EngineError, match="request a has no prompt text"):
        generate(chat, [Request("a", (1,), (0,))], SAMPLING)


def test_an_answer_without_content_is_an_empty_text(serve: Serve, organism: Model) -> None:
    """A server whose reasoning parser took all there is for thoughts."""
    empty = {"role": "assistant", "content": None, "reasoning": "hm"}
    script = serve(lambda attempt, body: Answer(reply(organism, body, message=empty)))
    requests = [Request("a", (), (0,), "1+1")]
    (found,) = generate(engine(script, organism, api="chat"), requests, SAMPLING)
    assert found.text == "" and found.tokens > 1


def test_a_switched_engine_asks_for_the_other_model(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    """`served_name` is the first model's; the others go by adapter or source."""
    script = serve(ok(organism))
    solver = engine(script, organism)
    tokenizer, config = organism.tokenizer, organism.config
    tuned = Model(organism.source, "float32", tokenizer, config, adapter="runs/lora")
    for model in (organism, tuned, organism):
        solver.switch(model)
        assert solver.model is model
        generate(solver, one, SAMPLING)
    assert [body["model"] for body in script.seen] == [NAME, "runs/lora", NAME]


def test_the_key_comes_from_the_environment(
    serve: Serve, organism: Model, one: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key for another service must not reach this one, so a missing key is a placeholder."""
    script = serve(ok(organism))
    monkeypatch.setenv("OPENAI_API_KEY", "another service's")
    solver = engine(script, organism, key_variable="SOLVER_KEY")
    generate(solver, one, SAMPLING)
    monkeypatch.setenv("SOLVER_KEY", "sesame")
    generate(solver, one, SAMPLING)
    generate(engine(script, organism), one, SAMPLING)
    assert script.keys == ["Bearer none", "Bearer sesame", "Bearer another service's"]


TRANSIENT = {
    "429": [Answer({"error": {"message": "busy"}}, 429, {"Retry-After": "0.02"})],
    "500 twice": [Answer("oh", 500), Answer("oh", 500)],
    "dropped": [Answer(status=0)],
    "409, 408": [Answer("oh", 409), Answer("oh", 408)],
}


@pytest.mark.parametrize("failures", TRANSIENT.values(), ids=TRANSIENT)
def test_passing_failures_are_tried_again(
    serve: Serve, organism: Model, requests: list[Request], failures: list[Answer]
) -> None:
    def answer(attempt: int, body: Json) -> Answer:
        return failures[attempt] if attempt < len(failures) else Answer(reply(organism, body))

    script = serve(answer)
    found = generate(engine(script, organism), requests, SAMPLING)
    assert len(found) == 6
    assert set(script.attempts.values()) == {len(failures)}


def test_retry_after_is_waited_for(
    serve: Serve, organism: Model, one: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    late = Answer("busy", 429, {"Retry-After": "7"})
    script = serve(lambda attempt, body: late if not attempt else Answer(reply(organism, body)))
    generate(engine(script, organism), one, SAMPLING)
    assert waited == [7]


def refusal(message: str, status: int) -> Callable[[int, Json], Answer]:
    return lambda attempt, body: Answer({"error": {"message": message}}, status)


REFUSALS = {
    "context": (400, "maximum context length is 9\ntokens", r"400 to sample 3 of a.*lower max_tok"),
    "field": (400, "unknown: top_k", r"unknown: top_k \(hint: set extensions = false"),
    "other": (422, "no", r"422 to sample 3 of a: no$"),
    "busy": (503, "busy", r"503 to sample 3 of a: busy$"),
    "key": (401, "who?", r"401.*who\?.*variable OPENAI_API_KEY is not set"),
}


@pytest.mark.parametrize(("status", "message", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_names_the_sample_and_what_to_do(
    serve: Serve, organism: Model, one: list[Request], status: int, message: str, expected: str
) -> None:
    script = serve(refusal(message, status))
    with pytest.raises(EngineError, match=expected) as caught:
        generate(engine(script, organism, retries=1), one, SAMPLING)
    assert "\n" not in str(caught.value)
    assert len(script.seen) == (2 if status == 503 else 1), "only what may pass is tried again"


def test_a_wrong_key_is_told_from_a_missing_one(
    serve: Serve, organism: Model, one: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLVER_KEY", "sesame")
    script = serve(lambda attempt, body: Answer({"error": "Unauthorized"}, 401))
    with pytest.raises(EngineError, match=r"Unauthorized.*SOLVER_KEY holds another") as caught:
        generate(engine(script, organism, key_variable="SOLVER_KEY"), one, SAMPLING)
    assert "sesame" not in str(caught.value)


def test_a_model_that_is_not_served_is_named_with_those_that_are(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    served = Answer({"data": [{"id": "large"}, {"id": "small"}]})
    script = serve(refusal("no such model", 404), models=served)
    expected = f"does not serve '{NAME}'; it serves: large, small .*vllm serve"
    with pytest.raises(EngineError, match=expected):
        generate(engine(script, organism), one, SAMPLING)


def test_an_adapter_that_is_not_served_comes_with_the_command(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(refusal("no such model", 404))
    tuned = Model("a/b", "float32", organism.tokenizer, organism.config, adapter="runs/lora")
    with pytest.raises(EngineError, match="serve a/b --enable-lora --lora-modules runs/lora=runs"):
        generate(engine(script, tuned), one, SAMPLING)


def test_a_wrong_url_is_told_from_a_wrong_model(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    missing = Answer({"detail": "Not Found"}, 404)
    script = serve(lambda attempt, body: missing, models=missing)
    with pytest.raises(EngineError, match=r"lists no models: Not Found.*ends in /v1"):
        generate(engine(script, organism), one, SAMPLING)


def test_a_server_that_is_not_there_is_named_with_the_command(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    """A port that was free a moment ago: nobody listens there."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    solver = server.build(server.Config(url=url, retries=2), organism)
    with pytest.raises(EngineError, match=f"{url} after 2 retries.*vllm serve {organism.source}"):
        generate(solver, one, SAMPLING)


def test_an_answer_that_takes_too_long_is_given_up(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(lambda attempt, body: Answer(hang=True))
    with pytest.raises(EngineError, match=r"sample 3 of a within 0\.3 s after 1 retries"):
        generate(engine(script, organism, timeout_seconds=0.3, retries=1), one, SAMPLING)
    assert len(script.seen) == 2


def with_choice(**changes: Any) -> Callable[[Model, Json], Json | str]:
    return lambda organism, body: reply(organism, body, **changes)


MALFORMED: dict[str, tuple[Callable[[Model, Json], Json | str], str]] = {
    "no JSON": (lambda organism, body: "{oops", "no JSON"),
    "a list of nothing": (lambda organism, body: {"choices": []}, "choices"),
    "no usage": (
        lambda organism, body: {"choices": [{"finish_reason": "stop", "text": "x"}]},
        "neither token_ids nor usage",
    ),
    "no logprobs": (with_choice(logprobs=None), "0 log-probabilities"),
    "a missing logprob": (with_choice(logprobs={"token_logprobs": [-1.0, None]}), "token_logprobs"),
    "filtered": (with_choice(finish_reason="content_filter"), "'content_filter', allowed: stop"),
    "aborted": (with_choice(finish_reason="abort"), "'abort'"),
    "unfinished": (with_choice(finish_reason=None), "None"),
    "cut early": (with_choice(finish_reason="length"), r"cut sample 3 of a after \d+ tokens"),
    "another end": (
        with_choice(token_ids=[7, 8], logprobs={"token_logprobs": [-1.0, -1.0]}),
        "ended sample 3 of a with token 8",
    ),
    "no text": (with_choice(token_ids=None, text=None), "no text"),
}


@pytest.mark.parametrize(("write", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_whole_completion_is_an_error(
    serve: Serve,
    organism: Model,
    one: list[Request],
    write: Callable[[Model, Json], Json | str],
    expected: str,
) -> None:
    script = serve(lambda attempt, body: Answer(write(organism, body)))
    with pytest.raises(EngineError, match=expected) as caught:
        generate(engine(script, organism), one, SAMPLING)
    assert "sample 3 of a" in str(caught.value)


def test_a_page_instead_of_an_api_is_an_error(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    page = Answer("<html>", headers={"Content-Type": "text/html"})
    script = serve(lambda attempt, body: page)
    with pytest.raises(EngineError, match="sample 3 of a with no completion: the whole"):
        generate(engine(script, organism), one, SAMPLING)


def test_a_completion_at_the_cap_keeps_all_its_tokens(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    ids = organism.tokenizer.encode("<answer>4", add_special_tokens=False)
    scores = {"token_logprobs": [-1.0] * len(ids)}
    changes = {"finish_reason": "length", "token_ids": ids, "logprobs": scores}
    script = serve(lambda attempt, body: Answer(reply(organism, body, **changes)))
    sampling = Sampling(temperature=1.0, max_tokens=len(ids), seed=0)
    (found,) = generate(engine(script, organism), one, sampling)
    assert found.finish_reason is FinishReason.LENGTH
    assert (found.text, found.token_ids) == ("<answer>4", tuple(ids))


def test_log_probabilities_that_the_server_tells_otherwise_are_refused(
    serve: Serve, organism: Model, one: list[Request]
) -> None:
    script = serve(ok(organism))
    warm = Sampling(temperature=0.6, max_tokens=12, seed=0)
    with pytest.raises(EngineError, match=r"temperature 0\.6.*scaled_logprobs"):
        generate(engine(script, organism), one, warm)
    assert script.seen == []
    (found,) = generate(engine(script, organism, scaled_logprobs=True), one, warm)
    assert len(found.logprobs) == found.tokens


def test_an_overlong_prompt_never_reaches_the_server(serve: Serve, organism: Model) -> None:
    script = serve(ok(organism))
    with pytest.raises(EngineError, match="long"):
        generate(engine(script, organism), [Request("long", (1,) * 512, (0,))], SAMPLING)
    assert script.seen == []


def test_an_engine_closed_early_stops_asking(serve: Serve, organism: Model) -> None:
    """Sample 0 answers at once, the next two hang; the other 97 are never asked for."""
    first = server._seed(SAMPLING, "a", 0)

    def answer(attempt: int, body: Json) -> Answer:
        return Answer(reply(organism, body), hang=body["seed"] != first)

    script = serve(answer)
    solver = engine(script, organism, concurrency=2)
    stream = solver.stream([Request("a", (1, 2), tuple(range(100)))], SAMPLING)
    assert isinstance(stream, Generator)
    assert next(stream).index == 0
    stream.close()
    assert len(script.seen) <= 3 and script.answered == 1, "it does not wait for what hangs"
    assert open_clients() == 0


def test_a_failure_ends_what_is_under_way(serve: Serve, organism: Model) -> None:
    first = server._seed(SAMPLING, "a", 0)

    def answer(attempt: int, body: Json) -> Answer:
        if body["seed"] == first:
            return Answer("no", 400)
        return Answer(hang=True)

    script = serve(answer)
    with pytest.raises(EngineError, match="sample 0 of a"):
        generate(
            engine(script, organism, concurrency=2),
            [Request("a", (1, 2), tuple(range(100)))],
            SAMPLING,
        )
    assert len(script.seen) <= 3 and script.answered == 1, "it does not wait for what hangs"
    assert open_clients() == 0


def test_without_the_openai_package_the_error_says_how_to_get_it(
    organism: Model, one: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EngineError, match=r"pip install 'sdbench\[server\]'"):
        generate(server.build(server.Config(), organism), one, SAMPLING)


def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="url"):
        server.Config(url="localhost:8000/v1")


@pytest.fixture
def policy() -> PeftModel:
    """An adapter under training over the organism."""
    config = LoraConfig(r=9, target_modules=["q_proj"], init_lora_weights=False)
    return cast(PeftModel, get_peft_model(models.load("organism").network, config))


@dataclass
class Adapters:
    """How vLLM answers where adapters may be loaded, and what it has loaded."""

    organism: Model
    loaded: dict[str, Path] = field(default_factory=dict)
    weights: list[torch.Tensor] = field(default_factory=list)
    most: int = 0

    def __call__(self, attempt: int, body: Json) -> Answer:
        name = body.get("lora_name")
        if name is None:
            return Answer(reply(self.organism, body))
        plain = {"Content-Type": "text/plain"}
        if "lora_path" not in body:
            del self.loaded[name]
            return Answer("Success: removed", headers=plain)
        self.loaded[name] = Path(body["lora_path"])
        tensors = load_file(self.loaded[name] / "adapter_model.safetensors")
        self.weights.append(next(iter(tensors.values())))
        self.most = max(self.most, len(self.loaded))
        return Answer("Success: added", headers=plain)


@torch.no_grad()
def change(policy: PeftModel) -> None:
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(1)


def test_an_adapter_under_training_is_loaded_anew_and_the_one_before_unloaded(
    serve: Serve, organism: Model, one: list[Request], policy: PeftModel
) -> None:
    adapters = Adapters(organism)
    script = serve(adapters)
    solver = engine(script, organism)
    assert not solver.shares_weights
    asked, folders = [], []
    for _ in range(3):
        solver.sync(policy)
        ((name, folder),) = adapters.loaded.items()
        assert folder.is_absolute() and (folder / "adapter_config.json").is_file()
        (found,) = generate(solver, one, SAMPLING)
        assert found.token_ids and len(found.logprobs) == found.tokens
        assert script.seen[-1]["model"] == name
        asked.append(name)
        folders.append(folder)
        change(policy)
    assert len(set(asked)) == 3 and adapters.most == 2
    assert [folder.exists() for folder in folders] == [False, False, True]
    first, second, third = adapters.weights
    assert torch.equal(second, first + 1) and torch.equal(third, second + 1)
    assert set(script.paths) == {
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/completions",
    }
    solver.close()
    assert adapters.loaded == {} and not folders[2].parent.exists()


def test_another_model_takes_the_place_of_the_adapter_under_training(
    serve: Serve, organism: Model, one: list[Request], policy: PeftModel
) -> None:
    adapters = Adapters(organism)
    script = serve(adapters)
    solver = engine(script, organism)
    solver.sync(policy)
    solver.switch(organism)
    generate(solver, one, SAMPLING)
    assert adapters.loaded == {} and script.seen[-1]["model"] == NAME
    solver.close()


def test_a_shared_folder_can_be_read_by_others_and_is_left_as_it_was(
    serve: Serve, organism: Model, policy: PeftModel, tmp_path: Path
) -> None:
    adapters = Adapters(organism)
    shared = tmp_path / "shared"
    solver = engine(serve(adapters), organism, adapter_folder=str(shared))
    solver.sync(policy)
    (folder,) = adapters.loaded.values()
    assert folder.parent.parent == shared
    assert folder.parent.stat().st_mode & 0o777 == 0o755
    solver.close()
    assert list(shared.iterdir()) == []


def test_all_weights_are_refused_with_what_is_possible(organism: Model) -> None:
    solver = server.build(server.Config(), organism)
    with pytest.raises(ConfigError, match=r"LoRA adapter only.*\[lora\].*engine vllm or hf"):
        solver.sync(organism.network)


@pytest.mark.parametrize("options", [{"api": "chat"}, {"extensions": False}])
def test_what_tells_too_little_for_training_is_refused(
    organism: Model, policy: PeftModel, options: dict[str, Any]
) -> None:
    solver = server.build(server.Config(**options), organism)
    with pytest.raises(ConfigError, match="ids and log-probabilities of all tokens"):
        solver.sync(policy)


def test_a_server_without_token_ids_is_refused_in_training_alone(
    serve: Serve, organism: Model, one: list[Request], policy: PeftModel
) -> None:
    def answer(attempt: int, body: Json) -> Answer:
        if "lora_name" in body:
            return Answer("Success", headers={"Content-Type": "text/plain"})
        return Answer(reply(organism, body, token_ids=None))

    solver = engine(serve(answer), organism)
    assert generate(solver, one, SAMPLING)[0].token_ids == ()
    solver.sync(policy)
    with pytest.raises(EngineError, match=r"token ids of sample 3 of a.*training.*vLLM"):
        generate(solver, one, SAMPLING)
    solver.close()


COMMAND = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve .* --enable-lora --max-lora-rank 16"
UNLOADABLE: dict[str, tuple[int, Json, str]] = {
    "no such route": (404, {"detail": "Not Found"}, COMMAND),
    "no LoRA": (500, {"error": {"message": "LoRA is not enabled"}}, f"not enabled.*{COMMAND}"),
    "folder": (404, {"error": {"message": "No adapter found for x"}}, "No adapter.*adapter_folder"),
    "key": (401, {"error": {"message": "who?"}}, r"who\?.*OPENAI_API_KEY is not set"),
}


@pytest.mark.parametrize(("status", "body", "expected"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_an_adapter_that_is_not_loaded_comes_with_what_to_do(
    serve: Serve, organism: Model, policy: PeftModel, status: int, body: Json, expected: str
) -> None:
    """Rank 9 needs kernels for 16."""
    solver = engine(serve(lambda attempt, asked: Answer(body, status)), organism, retries=1)
    with pytest.raises(EngineError, match=f"the load of adapter .*{expected}"):
        solver.sync(policy)
    solver.close()


def test_a_server_that_is_not_there_comes_with_the_command(
    organism: Model, policy: PeftModel
) -> None:
    solver = server.build(server.Config(url="http://127.0.0.1:9/v1", retries=0), organism)
    with pytest.raises(EngineError, match=f"cannot reach .*{COMMAND}"):
        solver.sync(policy)
    solver.close()


def test_an_answer_that_got_lost_is_no_failure(
    serve: Serve, organism: Model, policy: PeftModel
) -> None:
    """The connection drops after the adapter was loaded, so the repeated request is refused."""

    def answer(attempt: int, body: Json) -> Answer:
        if attempt == 0:
            return Answer(status=0)
        message = "The lora adapter 'x' has already been loaded."
        return Answer({"error": {"message": message}}, 400)

    script = serve(answer)
    solver = engine(script, organism)
    solver.sync(policy)
    assert len(script.seen) == 2
    solver.close()


def test_a_server_that_has_forgotten_an_adapter_need_not_unload_it(
    serve: Serve, organism: Model, policy: PeftModel
) -> None:
    adapters = Adapters(organism)

    def answer(attempt: int, body: Json) -> Answer:
        if "lora_path" in body:
            return adapters(attempt, body)
        return Answer({"error": {"message": "The lora adapter cannot be found."}}, 404)

    solver = engine(serve(answer), organism)
    solver.sync(policy)
    solver.sync(policy)
    assert [folder.exists() for folder in adapters.loaded.values()] == [False, True]
    solver.close()


def test_an_adapter_that_cannot_be_unloaded_stops_training_but_not_its_end(
    serve: Serve, organism: Model, policy: PeftModel
) -> None:
    adapters = Adapters(organism)

    def answer(attempt: int, body: Json) -> Answer:
        return adapters(attempt, body) if "lora_path" in body else Answer("oh", 500)

    solver = engine(serve(answer), organism, retries=1)
    solver.sync(policy)
    with pytest.raises(EngineError, match="500 to the unload of adapter sdbench-"):
        solver.sync(policy)
    solver.close()
    assert not any(folder.exists() for folder in adapters.loaded.values())


def test_a_stream_may_run_in_another_thread(
    serve: Serve, organism: Model, requests: list[Request], policy: PeftModel
) -> None:
    """As rollouts do that are drawn during an update; adapters are swapped between two streams."""
    solver = engine(serve(Adapters(organism)), organism)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            solver.sync(policy)
            there = pool.submit(generate, solver, requests, SAMPLING).result()
            assert there == generate(solver, requests, SAMPLING)
    solver.close()
    assert open_clients() == 0
