"""vLLM in this machine's processes: the engine for language models, on CUDA and on CPU.

One engine serves many checkpoints: weights are reloaded and LoRA adapters swapped without a restart.
All samples of a prompt are one request, so the prompt is read once. Sample i of a request draws with
the seed base + i, the base being a hash of (seed, request id); vLLM gives each of the n samples of a
seeded request its own such seed, so more samples can be drawn later.

vLLM holds its own copy of a model under training. All weights reach it as files in memory, or within
the GPU that both share; an adapter as a small file under a new name each time, since vLLM keeps what
it has computed with an adapter under that adapter's name.

Departures from vLLM's defaults: the distribution is the model's own, without the top-k, top-p or
penalties that a generation config may hold; log-probabilities are of the distribution drawn from;
prompts that do not fit are refused and not cut. On CPU prompts are read whole, since a seeded request
whose prompt is read in pieces ends vLLM 0.32 there, graphs are not compiled, and after a reload the
output layer is packed anew, which vLLM 0.32 forgets there if embeddings are tied.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from sdbench.engines import _ipc, _vllm_worker, _weights
from sdbench.engines.base import EngineConfig, Request, Sampling, key, refuse_overlong
from sdbench.errors import EngineError
from sdbench.models import Model
from sdbench.records import Completion, FinishReason

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from vllm import AsyncLLMEngine, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

SEED_BYTES = 6
CPU_BATCH_TOKENS = 8192
Positive = Annotated[int, Field(gt=0)]


class Config(EngineConfig):
    """Options.

    Attributes:
        tensor_parallel_size: GPUs that share one copy of the model.
        data_parallel_size: Copies of the model, each on its own GPUs.
        max_model_len: Most tokens of prompt and completion together; None for the model's own.
        max_num_seqs: Most completions under way at once; None for vLLM's choice.
        prefix_caching: Whether prompts that start alike are read once.
        gpu_memory_utilization: Share of each GPU's memory that vLLM takes.
        cpu_cache_gib: Room for keys and values on CPU.
        max_lora_rank: Largest rank of an adapter; None for the first adapter's.
        transfer: How all weights of a model under training get here: `files`, in memory where there
            is room; `ipc`, within the GPU if vLLM and the model share one, else by files.
        engine_args: Anything else that vLLM's `EngineArgs` takes, passed on as it is.
    """

    effort: ClassVar[frozenset[str]] = frozenset(
        {"tensor_parallel_size", "data_parallel_size", "max_num_seqs", "prefix_caching"}
        | {"gpu_memory_utilization", "cpu_cache_gib", "max_lora_rank", "transfer"}
    )

    tensor_parallel_size: Positive = 1
    data_parallel_size: Positive = 1
    max_model_len: Positive | None = None
    max_num_seqs: Positive | None = None
    prefix_caching: bool = True
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cpu_cache_gib: Positive = 2
    max_lora_rank: Positive | None = None
    transfer: Literal["files", "ipc"] = "files"
    engine_args: dict[str, object] = Field(default_factory=dict)


def build(config: Config, model: Model) -> VLLMEngine:
    """The engine; vLLM starts with the first request."""
    return VLLMEngine(config, model)


@dataclass(frozen=True, slots=True)
class _Span:
    """Samples of one request with consecutive numbers: what one vLLM request draws."""

    request: Request
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Adapter:
    """The adapter under training as of the last sync, and the folder that holds it."""

    request: LoRARequest
    folder: TemporaryDirectory[str]


class VLLMEngine:
    """See the module."""

    def __init__(self, config: Config, model: Model) -> None:
        self._config = config
        self._model = model
        self._engine: AsyncLLMEngine | None = None
        self._loop = asyncio.new_event_loop()
        self._serial = count(1)
        self._adapter_ids = count(1)
        # What vLLM has: whose weights, None if they were synced; adapters up to which rank, 0 for
        # none; adapters by folder; the adapter under training; and whether weights come by IPC.
        self._loaded: str | None = None
        self._max_rank = 0
        self._adapters: dict[str, LoRARequest] = {}
        self._synced: _Adapter | None = None
        self._by_ipc = False

    @property
    def model(self) -> Model:
        """The model that it samples; its weights are in vLLM's memory only."""
        return self._model

    @property
    def shares_weights(self) -> bool:
        """No: vLLM has its own copy."""
        return False

    @property
    def max_length(self) -> int:
        """The model's, or `max_model_len` if that is less."""
        return min(self._model.max_length, self._config.max_model_len or self._model.max_length)

    def switch(self, model: Model) -> None:
        """Samples another model: by its adapter or by reloading weights, else by a restart."""
        before, self._model = self._model, model
        if not _alike(before, model) or _rank(model) > self._max_rank:
            self._end()
        if self._engine is not None:
            self._drop_synced()
            self._load(model.source)

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        """Takes over weights that are trained; starts vLLM, or starts it anew with room for LoRA.

        Raises:
            EngineError: vLLM does not start or does not take them.
        """
        try:
            if _weights.is_adapted(network):
                self._take_adapter(network)
            else:
                self._take_weights(cast("PreTrainedModel", network))
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"vLLM does not take over the weights: {error}") from error

    def _take_weights(self, network: PreTrainedModel) -> None:
        if self._engine is None:
            alone = self._config.tensor_parallel_size == self._config.data_parallel_size == 1
            self._by_ipc = self._config.transfer == "ipc" and alone and _ipc.is_possible(network)
        self._started(rank=0)
        self._drop_synced()
        self._loaded = None
        if self._by_ipc:
            _ipc.send(self._call, network, self._model.dtype)
        else:
            with _weights.folder_for(network, self._model.dtype) as folder:
                _weights.write_weights(network, Path(folder), self._model.dtype)
                self._reload(folder)
        self._forget_prefixes()

    def _take_adapter(self, network: PreTrainedModel | PeftModel) -> None:
        folder = TemporaryDirectory(prefix="sdbench-")
        path = _weights.write_adapter(network, Path(folder.name))
        rank = _weights.adapter_rank(path)
        if rank > self._max_rank:
            self._end()
        engine = self._started(rank)
        self._load(self._model.source)
        self._drop_synced()
        self._synced = _Adapter(self._lora_request(str(path)), folder)
        self._run(engine.add_lora(self._synced.request))
        self._forget_prefixes()

    def _drop_synced(self) -> None:
        """Takes the adapter under training out of vLLM's memory and off the disk."""
        if self._synced is None:
            return
        if self._engine is not None:
            self._run(self._engine.remove_lora(self._synced.request.lora_int_id))
        self._synced.folder.cleanup()
        self._synced = None

    def _load(self, source: str) -> None:
        """Has vLLM read these weights, unless it has them."""
        if self._loaded == source:
            return
        self._loaded = None
        self._reload(source)
        self._loaded = source
        self._forget_prefixes()

    def _reload(self, path: str) -> None:
        from vllm.platforms import current_platform

        self._call("reload_weights", {"weights_path": path})
        if current_platform.is_cpu():
            self._call(_vllm_worker.Worker.repack_output_layer.__name__, {})

    def _forget_prefixes(self) -> None:
        """Drops keys and values that were computed with other weights."""
        assert self._engine is not None, "whoever has weights taken over has started it"
        if not self._run(self._engine.reset_prefix_cache()):
            raise EngineError("vLLM's cache cannot be emptied: completions are still under way")

    def _call(self, method: str, arguments: dict[str, object]) -> None:
        """Calls a method of vLLM's workers."""
        assert self._engine is not None, "only what runs has workers"
        self._run(self._engine.collective_rpc(method, kwargs=arguments))

    def close(self) -> None:
        """Ends vLLM's processes."""
        self._end()
        self._loop.close()

    def _end(self) -> None:
        """Ends vLLM's processes; the next stream or sync starts them again."""
        if self._engine is not None:
            self._engine.shutdown()
            # It shuts down again when it is collected, which may be after its modules are gone.
            self._engine.__dict__["shutdown"] = _nothing
            self._engine = None
        self._drop_synced()
        self._adapters.clear()
        self._loaded, self._max_rank, self._by_ipc = None, 0, False
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        if pending:
            self._run(asyncio.gather(*pending, return_exceptions=True))

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Draws every wanted sample; see `engines.base.Engine.stream`."""
        refuse_overlong(requests, sampling, self.max_length)
        spans = [span for request in requests for span in _spans(request)]
        if not spans:
            return
        if self._engine is None:
            self._started(_rank(self._model))
        ended: asyncio.Queue[tuple[_Span, RequestOutput | Exception]] = asyncio.Queue()
        tasks = [self._loop.create_task(self._draw(span, sampling, ended)) for span in spans]
        try:
            for _ in tasks:
                span, output = self._run(ended.get())
                if isinstance(output, Exception):
                    raise EngineError(f"vLLM failed at {span.request.id}: {output}") from output
                yield from self._completions(span, output, greedy=sampling.temperature == 0)
        finally:
            for task in tasks:
                task.cancel()
            self._run(asyncio.gather(*tasks, return_exceptions=True))

    async def _draw(
        self,
        span: _Span,
        sampling: Sampling,
        ended: asyncio.Queue[tuple[_Span, RequestOutput | Exception]],
    ) -> None:
        assert self._engine is not None, "stream starts it"
        try:
            outputs = self._engine.generate(
                {"prompt_token_ids": list(span.request.prompt_ids)},
                self._parameters(span, sampling),
                f"{next(self._serial)}",
                lora_request=self._adapter(),
            )
            async for output in outputs:
                if output.finished:
                    await ended.put((span, output))
        except Exception as error:
            await ended.put((span, error))

    def _parameters(self, span: _Span, sampling: Sampling) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        base = int.from_bytes(key(sampling, span.request.id, 0)[:SEED_BYTES], "little")
        return SamplingParams(
            n=1 if sampling.temperature == 0 else span.size,
            seed=base + span.start,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            stop_token_ids=list(self._model.end_ids),
            logprobs=0 if sampling.logprobs else None,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completions(
        self, span: _Span, output: RequestOutput, *, greedy: bool
    ) -> Iterator[Completion]:
        ends = set(self._model.end_ids)
        # vLLM draws one sample where all are the same.
        drawn = [output.outputs[0 if greedy else offset] for offset in range(span.size)]
        for index, one in enumerate(drawn, span.start):
            ids = tuple(one.token_ids)
            stopped = bool(ids) and ids[-1] in ends
            yield Completion(
                request_id=span.request.id,
                index=index,
                tokens=len(ids),
                token_ids=ids,
                logprobs=_logprobs(ids, one.logprobs),
                text=self._model.decode(ids[:-1] if stopped else ids),
                finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            )

    def _adapter(self) -> LoRARequest | None:
        if self._synced is not None:
            return self._synced.request
        path = self._model.adapter
        if path is None:
            return None
        if path not in self._adapters:
            self._adapters[path] = self._lora_request(path)
        return self._adapters[path]

    def _lora_request(self, path: str) -> LoRARequest:
        """An adapter under a name and number that vLLM has not seen before."""
        from vllm.lora.request import LoRARequest

        number = next(self._adapter_ids)
        return LoRARequest(f"adapter-{number}", number, path)

    def _started(self, rank: int) -> AsyncLLMEngine:
        """vLLM, started if it is not running.

        Args:
            rank: Of the adapters it must then have room for, 0 for none.
        """
        if self._engine is None:
            self._max_rank = (self._config.max_lora_rank or rank) if rank else 0
            self._engine = self._start()
            self._loaded = self._model.source
        return self._engine

    def _start(self) -> AsyncLLMEngine:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(self._config.cpu_cache_gib))
        try:
            from vllm import AsyncEngineArgs, AsyncLLMEngine
        except ImportError as error:
            raise EngineError(
                f"the engine vllm needs vLLM: {error}", hint="run `make setup-vllm`"
            ) from error
        if self._by_ipc:
            os.environ.update(_ipc.ENVIRONMENT)

        async def start() -> AsyncLLMEngine:
            return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(**self._arguments()))

        try:
            started: AsyncLLMEngine = self._run(start())
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"vLLM does not start with {self._model.source}: {error}") from error
        return started

    def _arguments(self) -> dict[str, Any]:
        from vllm.platforms import current_platform

        config = self._config
        arguments: dict[str, Any] = {
            "model": self._model.source,
            "dtype": self._model.dtype,
            "tensor_parallel_size": config.tensor_parallel_size,
            "data_parallel_size": config.data_parallel_size,
            "max_model_len": self.max_length,
            "enable_prefix_caching": config.prefix_caching,
            "logprobs_mode": "processed_logprobs",
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if config.max_num_seqs is not None:
            arguments["max_num_seqs"] = config.max_num_seqs
        if self._max_rank:
            arguments |= {"enable_lora": True, "max_lora_rank": self._max_rank}
        if self._by_ipc:
            arguments["weight_transfer_config"] = {"backend": _ipc.BACKEND}
        if current_platform.is_cpu():
            arguments |= {
                "enforce_eager": True,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(CPU_BATCH_TOKENS, self.max_length),
                "worker_extension_cls": f"{_vllm_worker.__name__}.{_vllm_worker.Worker.__name__}",
            }
        else:
            arguments["gpu_memory_utilization"] = config.gpu_memory_utilization
        return arguments | config.engine_args

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)


def _nothing(*_: object, **__: object) -> None:
    """Takes the place of what has been done."""


def _spans(request: Request) -> Iterator[_Span]:
    """The wanted samples as runs of consecutive numbers."""
    run: list[int] = []
    for index in sorted(request.indices):
        if run and index != run[-1] + 1:
            yield _Span(request, run[0], len(run))
            run = []
        run.append(index)
    if run:
        yield _Span(request, run[0], len(run))


def _logprobs(ids: Sequence[int], found: Sequence[Any] | None) -> tuple[float, ...]:
    if found is None:
        return ()
    return tuple(float(row[token].logprob) for token, row in zip(ids, found, strict=True))


def _rank(model: Model) -> int:
    """The rank of the model's adapter, 0 without one."""
    return 0 if model.adapter is None else _weights.adapter_rank(model.adapter)


def _alike(one: Model, other: Model) -> bool:
    """Whether the weights of one fit into the other."""
    return one.dtype == other.dtype and _shape(one) == _shape(other)


def _shape(model: Model) -> dict[str, object]:
    ignored = {"_name_or_path", "transformers_version", "use_cache"}
    return {name: v for name, v in model.config.to_dict().items() if name not in ignored}
