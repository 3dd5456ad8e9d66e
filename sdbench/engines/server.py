"""Any OpenAI-compatible server, such as `vllm serve`, SGLang or llama.cpp's, here or far away.

Every sample is an HTTP request of its own with its own seed, a function of (seed, request id, index).
So any sample can be drawn alone and again, its tokens are counted exactly, and it comes as soon as it
has ended. Servers keep the keys and values of a prompt they have just read, so that reading it once
more for the next sample is cheap.

Whether the same seed gives the same completion again is up to the server; vLLM keeps to it, up to
rounding that depends on what else is in its batch. The distribution is the model's own: what a
server would take from a generation config or from its own defaults (top-p, top-k, min-p, a penalty on
repetition) is sent with the value that turns it off.

Of models under training a server can take over LoRA adapters, if it is vLLM and has been told that it
may: each is a folder that the server reads, under a new name each time, since vLLM keeps what it has
computed with an adapter under that adapter's name. The one before is then unloaded.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError

from sdbench.engines import _weights
from sdbench.engines.base import EngineConfig, Request, Sampling, key, refuse_overlong
from sdbench.errors import ConfigError, EngineError
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

if TYPE_CHECKING:
    import openai
    from peft import PeftModel
    from transformers import PreTrainedModel

# OpenAI's clients refuse to start without a key, and servers that ask for none take any.
NO_KEY = "none"
# 0 turns top-k off in vLLM alone, -1 in SGLang and llama.cpp too.
EXTENSIONS: dict[str, object] = {
    "return_token_ids": True,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
SHOWN_CHARACTERS = 300


class Config(EngineConfig):
    """Options.

    Attributes:
        url: Where the API begins, for example `http://localhost:8000/v1`.
        api: `completions` sends the prompt's token ids, so that the server reads just what every
            other engine reads. `chat` sends the user's turn, for a server that holds the chat
            template itself; the text is then what the server takes for the answer, without thoughts
            that a reasoning parser has cut off, and nothing is encoded or decoded here.
        served_name: What the server calls the model the engine is built with; None for the folder
            of its adapter, else its source. Models switched to later go by their own names.
        key_variable: Environment variable that holds the API key. The key is read when sampling
            starts and stored nowhere; without one the server gets a placeholder.
        concurrency: Most requests under way at once.
        retries: Times that a request is sent again after 408, 409, 429, 5xx, a timeout or a lost
            connection: as late as Retry-After says, else after 0.5 s, doubled up to 8 s.
        timeout_seconds: How long one attempt may take.
        extensions: Whether fields are sent that OpenAI's own API lacks: `return_token_ids` (vLLM
            tells the ids), `top_k`, `min_p` and `repetition_penalty` (turned off), and with
            `completions` also `stop_token_ids` (the model's). Off for a server that refuses
            unknown fields; then completions have no token ids, and the server's own defaults for
            these settings hold.
        scaled_logprobs: Whether the server tells log-probabilities after the temperature, as vLLM
            does under `--logprobs-mode processed_logprobs`. Otherwise they are the model's own, and
            asking for them at a temperature other than 0 and 1 is refused.
        adapter_folder: Where adapters under training are written for the server, which must see them
            under the same path; None for a temporary folder, for a server on this machine.
    """

    effort: ClassVar[frozenset[str]] = frozenset(
        {"key_variable", "concurrency", "retries", "timeout_seconds"}
        | {"scaled_logprobs", "adapter_folder"}
    )

    url: Annotated[str, Field(pattern=r"^https?://")] = "http://localhost:8000/v1"
    api: Literal["completions", "chat"] = "completions"
    served_name: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(gt=0)] = 64
    retries: Annotated[int, Field(ge=0)] = 6
    timeout_seconds: Annotated[float, Field(gt=0)] = 600
    extensions: bool = True
    scaled_logprobs: bool = False
    adapter_folder: str | None = None


def build(config: Config, model: Model) -> ServerEngine:
    """The engine; the server is first spoken to when samples are drawn."""
    return ServerEngine(config, model)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter under training that the server has been given."""

    name: str
    folder: Path


class ServerEngine:
    """See the module."""

    def __init__(self, config: Config, model: Model) -> None:
        self._config = config
        self._model = model
        self._shared: TemporaryDirectory[str] | None = None
        self._run_name = f"sdbench-{secrets.token_hex(4)}"
        self._serial = count(1)
        self._synced: _Adapter | None = None
        self._names = {_name(model): config.served_name or _name(model)}

    @property
    def model(self) -> Model:
        """The model that the server is asked for; its weights are not read here."""
        return self._model

    @property
    def max_length(self) -> int:
        """The model's; how many the server has room for it does not tell before it refuses."""
        return self._model.max_length

    @property
    def shares_weights(self) -> bool:
        """No: the server has its own copy."""
        return False

    def switch(self, model: Model) -> None:
        """Asks the server for another model from now on."""
        self._unload(self._synced)
        self._synced = None
        self._model = model

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        """Has the server load the adapter under training, and unload the one before.

        Raises:
            ConfigError: there is no adapter, or this server's settings do not tell what training needs.
            EngineError: the server does not load it.
        """
        self._refuse_training(network)
        number = next(self._serial)
        path = _weights.write_adapter(network, self._shared_folder() / str(number))
        adapter = _Adapter(f"{self._run_name}-{number}", path)
        self._load(adapter)
        before, self._synced = self._synced, adapter
        self._unload(before)

    def close(self) -> None:
        """Unloads the adapter under training; connections end with the stream that opened them."""
        # The server may be just what has failed; its adapters are bounded by its own settings.
        with suppress(EngineError):
            self._unload(self._synced, retries=0)
        self._synced = None
        if self._shared is not None:
            self._shared.cleanup()
            self._shared = None

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Draws every wanted sample; see `engines.base.Engine.stream`.

        Requests are sent while the caller waits for a completion; those under way go on at the
        server between two.

        Raises:
            EngineError: a prompt is too long or missing; the server cannot be reached, does not
                serve the model, refuses a request, or answers with what is no whole completion.
        """
        self._refuse(requests, sampling)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            client = self._client()
            draws = (
                self._draw(client, request, index, sampling)
                for request in requests
                for index in request.indices
            )
            try:
                yield from _as_completed(runner, draws, self._config.concurrency)
            finally:
                runner.run(client.close())

    def _refuse(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Refuses what no server could answer rightly."""
        if self._config.api == "completions":
            refuse_overlong(requests, sampling, self.max_length)
        elif empty := [request.id for request in requests if not request.prompt]:
            raise EngineError(
                f"request {empty[0]} has no prompt text, which api = 'chat' sends",
                hint="set api = 'completions'",
            )
        scaled = self._config.scaled_logprobs or sampling.temperature in (0, 1)
        if sampling.logprobs and not scaled:
            raise EngineError(
                f"log-probabilities at temperature {sampling.temperature} were asked for, but a"
                " server tells them at temperature 1",
                hint="start vLLM with --logprobs-mode processed_logprobs and set scaled_logprobs",
            )

    def _refuse_training(self, network: PreTrainedModel | PeftModel) -> None:
        """Refuses what cannot be trained through a server."""
        config = self._config
        if not _weights.is_adapted(network):
            raise ConfigError(
                f"all weights are trained, and the server at {config.url} can take over a LoRA"
                " adapter only",
                hint="add [lora] to the suite, or train with engine vllm or hf",
            )
        if config.api != "completions" or not config.extensions:
            raise ConfigError(
                f"engine server has api = {config.api!r} and extensions = {config.extensions};"
                " training needs the ids and log-probabilities of all tokens, which vLLM tells with"
                " api = 'completions' and extensions = true",
            )

    def _shared_folder(self) -> Path:
        """A folder of this engine's own that the server can read."""
        if self._shared is None:
            parent = self._config.adapter_folder
            if parent is not None:
                parent = str(Path(parent).expanduser().absolute())
                Path(parent).mkdir(parents=True, exist_ok=True)
            self._shared = TemporaryDirectory(prefix="sdbench-", dir=parent)
            # Whoever runs the server may be another user.
            Path(self._shared.name).chmod(0o755)
        return Path(self._shared.name)

    def _load(self, adapter: _Adapter) -> None:
        openai = _openai()
        body = {"lora_name": adapter.name, "lora_path": str(adapter.folder)}
        with openai.OpenAI(**self._connection()) as client:
            try:
                client.post("/load_lora_adapter", cast_to=str, body=body)
            except openai.APIError as error:
                # The name is this engine's own, so an answer got lost and the request was repeated.
                if "already been loaded" not in _message(error):
                    raise self._not_loaded(error, adapter) from error

    def _not_loaded(self, error: openai.APIError, adapter: _Adapter) -> EngineError:
        found = self._failure(error, f"the load of adapter {adapter.folder}")
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return found
        if status == 404 and _message(error) != "Not Found":
            hint = "the server must see this folder: set adapter_folder to one that both share"
        else:
            rank = _weights.adapter_rank(adapter.folder)
            hint = f"run `{_serve_adapters(self._model, rank)}`"
        return EngineError(str(found.args[0]), hint=hint)

    def _unload(self, adapter: _Adapter | None, retries: int | None = None) -> None:
        """Has the server forget an adapter, and deletes its folder."""
        if adapter is None:
            return
        openai = _openai()
        options = self._connection() | ({} if retries is None else {"max_retries": retries})
        with openai.OpenAI(**options) as client:
            try:
                body = {"lora_name": adapter.name}
                client.post("/unload_lora_adapter", cast_to=str, body=body)
            except openai.NotFoundError:
                pass  # A server that has been started anew has forgotten it already.
            except openai.APIError as error:
                raise self._failure(error, f"the unload of adapter {adapter.name}") from error
        shutil.rmtree(adapter.folder)

    def _client(self) -> openai.AsyncOpenAI:
        found: openai.AsyncOpenAI = _openai().AsyncOpenAI(**self._connection())
        return found

    def _connection(self) -> dict[str, Any]:
        return {
            "base_url": self._config.url,
            "api_key": os.environ.get(self._config.key_variable) or NO_KEY,
            "max_retries": self._config.retries,
            "timeout": self._config.timeout_seconds,
        }

    async def _draw(
        self, client: openai.AsyncOpenAI, request: Request, index: int, sampling: Sampling
    ) -> Completion:
        import openai

        path = "/completions" if self._config.api == "completions" else "/chat/completions"
        where = f"sample {index} of {request.id}"
        try:
            # As an object, since the client's own types are not checked against what came.
            found = await client.post(
                path, cast_to=object, body=self._body(request, index, sampling)
            )
        except openai.NotFoundError as error:
            raise await self._unknown_model(client, error) from error
        except openai.APIError as error:
            raise self._failure(error, where) from error
        except ValueError as error:
            raise self._no_completion(where, f"no JSON, {error}") from error
        return self._completion(request, index, found, sampling)

    def _body(self, request: Request, index: int, sampling: Sampling) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._served(),
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "max_tokens": sampling.max_tokens,
            "seed": _seed(sampling, request.id, index),
        }
        if self._config.extensions:
            body |= EXTENSIONS
        if self._config.api == "chat":
            body["messages"] = [{"role": "user", "content": request.prompt}]
            return body | ({"logprobs": True} if sampling.logprobs else {})
        body["prompt"] = list(request.prompt_ids)
        if self._config.extensions:
            body["stop_token_ids"] = list(self._model.end_ids)
        # Some servers take 0 for none at all; 1 brings the likeliest token along, which is ignored.
        return body | ({"logprobs": 1} if sampling.logprobs else {})

    def _completion(
        self, request: Request, index: int, found: object, sampling: Sampling
    ) -> Completion:
        """What the server sent, once it holds all that a completion must hold."""
        where = f"sample {index} of {request.id}"
        try:
            reply = _Reply.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise self._no_completion(where, f"{place}: {first['msg']}") from error
        choice = reply.choices[0]
        ids = choice.token_ids or ()
        if self._synced is not None and not ids:
            raise EngineError(
                f"{self._config.url} does not tell the token ids of {where}, which training needs",
                hint="serve the model with vLLM, which tells them for return_token_ids",
            )
        tokens = len(ids) or (reply.usage.completion_tokens if reply.usage else None)
        if tokens is None:
            raise self._no_completion(where, "neither token_ids nor usage.completion_tokens")
        reason = self._reason(choice, tokens, where, sampling)
        logprobs = choice.logprobs.values() if sampling.logprobs and choice.logprobs else ()
        if sampling.logprobs and len(logprobs) != tokens:
            raise self._no_completion(where, f"{len(logprobs)} log-probabilities, {tokens} tokens")
        return Completion(
            request_id=request.id,
            index=index,
            tokens=tokens,
            token_ids=ids,
            logprobs=logprobs,
            text=self._text(choice, reason, where),
            finish_reason=reason,
        )

    def _reason(self, choice: _Choice, tokens: int, where: str, sampling: Sampling) -> FinishReason:
        """Why the completion ended, if it ended as one may."""
        if choice.finish_reason not in tuple(FinishReason):
            raise self._no_completion(
                where, f"finish_reason {choice.finish_reason!r}, allowed: {', '.join(FinishReason)}"
            )
        reason = FinishReason(choice.finish_reason)
        if reason is FinishReason.LENGTH and tokens < sampling.max_tokens:
            raise EngineError(
                f"{self._config.url} cut {where} after {tokens} tokens, before max_tokens"
                f" {sampling.max_tokens}",
                hint="serve the model with room for more tokens (vLLM: --max-model-len)",
            )
        return reason

    def _text(self, choice: _Choice, reason: FinishReason, where: str) -> str:
        if self._config.api == "chat":
            if choice.message is None:
                raise self._no_completion(where, "no message")
            return choice.message.content or ""
        if not choice.token_ids:
            if choice.text is None:
                raise self._no_completion(where, "no text")
            return choice.text
        if reason is FinishReason.LENGTH:
            return self._model.decode(choice.token_ids)
        *ids, last = choice.token_ids
        if last not in self._model.end_ids:
            raise EngineError(
                f"{self._config.url} ended {where} with token {last}, which does not end a"
                f" completion of {_name(self._model)}; those that do: {self._model.end_ids}",
                hint="does the server serve this very model?",
            )
        return self._model.decode(ids)

    def _served(self) -> str:
        """What the server calls the model."""
        if self._synced is not None:
            return self._synced.name
        name = _name(self._model)
        return self._names.get(name, name)

    def _no_completion(self, where: str, found: str) -> EngineError:
        return EngineError(f"{self._config.url} answers {where} with no completion: {found}")

    async def _unknown_model(
        self, client: openai.AsyncOpenAI, error: openai.NotFoundError
    ) -> EngineError:
        """The error for a model that is not served, with those that are."""
        import openai

        url = self._config.url
        try:
            found = await client.get("/models", cast_to=object)
            served = [model.id for model in _Models.model_validate(found).data]
        except (openai.APIError, ValueError):
            return EngineError(
                f"{url} answers 404 and lists no models: {_message(error)}",
                hint="is the url right? It mostly ends in /v1",
            )
        return EngineError(
            f"{url} does not serve {self._served()!r}; it serves: {', '.join(served) or 'nothing'}",
            hint=f"set served_name, or run `{_serve(self._model)}`",
        )

    def _failure(self, error: openai.APIError, where: str) -> EngineError:
        """The error for a request that the server has refused, or that did not reach it."""
        import openai

        url, retries = self._config.url, self._config.retries
        if isinstance(error, openai.APITimeoutError):
            return EngineError(
                f"{url} did not answer {where} within {self._config.timeout_seconds:g} s"
                f" after {retries} retries",
                hint="raise timeout_seconds or lower concurrency",
            )
        if isinstance(error, openai.APIConnectionError):
            return EngineError(
                f"cannot reach {url} after {retries} retries: {str(error.__cause__ or '') or error}",
                hint=f"run `{_serve(self._model)}`",
            )
        status = getattr(error, "status_code", "an error")
        refused = f"{url} answers {status} to {where}: {_message(error)}"
        if status in (401, 403):
            variable = self._config.key_variable
            state = "holds another" if os.environ.get(variable) else "is not set"
            return EngineError(refused, hint=f"it wants a key; the variable {variable} {state}")
        return EngineError(refused, hint=self._advice(status, _message(error)))

    def _advice(self, status: object, message: str) -> str | None:
        if status not in (400, 413, 422):
            return None
        if self._config.extensions and any(
            name in message for name in (*EXTENSIONS, "stop_token_ids")
        ):
            return "set extensions = false"
        if "context" in message or "max_model_len" in message:
            return "lower max_tokens, or serve the model with room for more tokens"
        return None


class _Message(BaseModel):
    content: str | None = None


class _TokenLogprob(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    """As completions tell them, or as chats (and llama.cpp always) do."""

    token_logprobs: tuple[float, ...] | None = None
    content: tuple[_TokenLogprob, ...] | None = None

    def values(self) -> tuple[float, ...]:
        return self.token_logprobs or tuple(one.logprob for one in self.content or ())


class _Choice(BaseModel):
    finish_reason: str | None = None
    text: str | None = None
    message: _Message | None = None
    logprobs: _Logprobs | None = None
    token_ids: tuple[int, ...] | None = None


class _Usage(BaseModel):
    completion_tokens: int


class _Reply(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=1)]
    usage: _Usage | None = None


class _Served(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Served]


def _as_completed(
    runner: asyncio.Runner, draws: Iterator[Coroutine[Any, Any, Completion]], most: int
) -> Iterator[Completion]:
    """Results as they come, of at most so many draws at once; the rest is cancelled at the end."""
    loop = runner.get_loop()
    tasks = {loop.create_task(draw) for draw in islice(draws, most)}
    try:
        while tasks:
            done, _ = runner.run(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
            for task in done:
                tasks.remove(task)
                tasks.update(loop.create_task(draw) for draw in islice(draws, 1))
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        runner.run(_settle(tasks))


async def _settle(tasks: set[asyncio.Task[Completion]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _seed(sampling: Sampling, request_id: str, index: int) -> int:
    """The sample's seed, below 2**31: what llama.cpp takes too, and never vLLM's -1 for none."""
    return int.from_bytes(key(sampling, request_id, index)[:4], "little") >> 1


def _openai() -> ModuleType:
    try:
        import openai
    except ImportError as error:
        raise EngineError(
            f"the engine server needs the openai package: {error}",
            hint="pip install 'sdbench[server]'",
        ) from error
    return openai


def _name(model: Model) -> str:
    return model.adapter or model.source


def _serve(model: Model) -> str:
    """The command that serves a model under its own name."""
    if model.adapter is None:
        return f"vllm serve {model.source}"
    lora = f"--enable-lora --lora-modules {model.adapter}={model.adapter}"
    return f"vllm serve {model.source} {lora}"


def _serve_adapters(model: Model, rank: int) -> str:
    """The command that serves a model under adapters that are still to come."""
    allow = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    return f"{allow} vllm serve {model.source} --enable-lora --max-lora-rank {rank}"


def _message(error: openai.APIError) -> str:
    """What the server says, on one line."""
    found = error.body
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail")
    return " ".join(str(found or error).split())[:SHOWN_CHARACTERS]
