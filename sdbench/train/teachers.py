"""Which weights the teacher reads with: the initial policy's, the live ones, or an average.

An average follows the policy after each update, `average = d * average + (1 - d) * policy`: `ema` has
the same d each time, `refresh` has 0 at each refresh and 1 between. With LoRA the average is that of
the product of both factors, alpha / rank * B A, which is what acts on the weights; the average of
each factor would be another thing. It is held as one matrix for each adapted layer, is added to that
layer's output, and needs no second copy of the weights. The initial policy is then the network with
its adapter switched off.

Source: a fixed teacher as in 2606.11173 and 2601.18734; the moving average as in 2601.19897.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn
from torch.nn import functional

from sdbench.config import Teacher as TeacherConfig
from sdbench.errors import CheckpointError
from sdbench.models import completion_hidden, head_of
from sdbench.records import TeacherView

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

Tensors = dict[str, torch.Tensor]
Read = Callable[[Sequence[TeacherView]], torch.Tensor]
Hook = Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], torch.Tensor]


class Teacher(Protocol):
    """Reads, without gradient; its weights change, if at all, only after an update."""

    @property
    def head(self) -> nn.Linear:
        """The output layer that makes logits of its hidden states."""
        ...

    def hidden(self, views: Sequence[TeacherView]) -> torch.Tensor:
        """Last hidden states at the completion tokens, [N, H], packed in order of `views`."""
        ...

    def follow(self, update: int) -> None:
        """Takes note that the policy has been updated."""
        ...

    def state(self) -> Tensors:
        """What a checkpoint must hold for it; empty if it follows from the rest."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts that back.

        Raises:
            CheckpointError: it is another teacher's.
        """
        ...


def build(
    config: TeacherConfig,
    network: PreTrainedModel | PeftModel,
    read: Read,
    initial: Callable[[], PreTrainedModel],
) -> Teacher:
    """The teacher of a policy that has not been updated yet.

    Args:
        config: Which weights.
        network: The policy's network, whose weights change in place.
        read: The policy's own hidden states, in the network's present state.
        initial: Loads the initial policy anew; called only where there must be a copy.
    """
    if config.kind == "live":
        return Live(network, read)
    if config.kind == "initial":
        return initial_teacher(network, read, initial)
    decay = _ema(config.decay) if config.kind == "ema" else _refreshed(config.every)
    if is_adapted(network):
        return AveragedAdapter(network, read, decay)
    return AveragedCopy(network, initial(), decay)


def initial_teacher(
    network: PreTrainedModel | PeftModel, read: Read, initial: Callable[[], PreTrainedModel]
) -> Teacher:
    """The initial policy: the adapter switched off, or a copy that is made when first read."""
    return AdapterOff(network, read) if is_adapted(network) else Copy(initial)


def is_adapted(network: PreTrainedModel | PeftModel) -> bool:
    """Whether it is a peft model."""
    return hasattr(network, "disable_adapter")


class _Stateless:
    """A teacher that a checkpoint need not hold."""

    def follow(self, update: int) -> None:
        """Nothing changes."""

    def state(self) -> Tensors:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing can be put back."""
        _refuse_strange(state, {})


class Live(_Stateless):
    """The policy as it is, gradient stopped."""

    def __init__(self, network: PreTrainedModel | PeftModel, read: Read) -> None:
        self._network, self._read = cast("PreTrainedModel", network), read

    @property
    def head(self) -> nn.Linear:
        """The policy's."""
        return head_of(self._network)

    def hidden(self, views: Sequence[TeacherView]) -> torch.Tensor:
        """See `Teacher.hidden`."""
        with evaluating(self._network):
            return self._read(views)


class AdapterOff(Live):
    """The network below the adapter."""

    def hidden(self, views: Sequence[TeacherView]) -> torch.Tensor:
        """See `Teacher.hidden`."""
        with evaluating(self._network), cast("PeftModel", self._network).disable_adapter():
            return self._read(views)


class Copy(_Stateless):
    """A frozen network of its own, made when it is first read."""

    def __init__(self, load: Callable[[], PreTrainedModel]) -> None:
        self._load = load
        self._network: PreTrainedModel | None = None

    @property
    def network(self) -> PreTrainedModel:
        """The copy."""
        if self._network is None:
            self._network = self._load().eval().requires_grad_(False)
        return self._network

    @property
    def head(self) -> nn.Linear:
        """The copy's."""
        return head_of(self.network)

    @torch.no_grad()
    def hidden(self, views: Sequence[TeacherView]) -> torch.Tensor:
        """See `Teacher.hidden`."""
        return completion_hidden(self.network, views)


class AveragedCopy(Copy):
    """A copy whose weights follow the policy's, in float32 or wider."""

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        start: PreTrainedModel,
        decay: Callable[[int], float],
    ) -> None:
        super().__init__(lambda: start)
        self._policy, self._decay = policy, decay

    @torch.no_grad()
    def follow(self, update: int) -> None:
        """Moves towards the policy."""
        decay = self._decay(update)
        if decay == 1:
            return
        current = dict(self._policy.named_parameters())
        for name, average in self.network.named_parameters():
            _move(average, _whole(current[name]), decay)

    def state(self) -> Tensors:
        """The averages by parameter."""
        return {name: value.detach() for name, value in self.network.named_parameters()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts the averages back."""
        _put_back(self.state(), state)


class AveragedAdapter(AdapterOff):
    """The average of the adapter's products, [out, in] for each adapted layer, in float32."""

    def __init__(
        self, network: PreTrainedModel | PeftModel, read: Read, decay: Callable[[int], float]
    ) -> None:
        super().__init__(network, read)
        self._decay = decay
        self._layers = dict(_adapted_layers(network))
        self._averages = {
            name: _no_change(cast(nn.Linear, layer.base_layer).weight)
            for name, layer in self._layers.items()
        }

    def hidden(self, views: Sequence[TeacherView]) -> torch.Tensor:
        """See `Teacher.hidden`."""
        with ExitStack() as stack:
            for name, layer in self._layers.items():
                hook = layer.base_layer.register_forward_hook(_adding(self._averages[name]))
                stack.callback(hook.remove)
            return super().hidden(views)

    @torch.no_grad()
    def follow(self, update: int) -> None:
        """Moves towards the product of the policy's factors."""
        decay = self._decay(update)
        if decay == 1:
            return
        for name, layer in self._layers.items():
            _move(self._averages[name], product(layer), decay)

    def state(self) -> Tensors:
        """The averages by layer."""
        return self._averages

    @torch.no_grad()
    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts the averages back."""
        _put_back(self._averages, state)


def product(layer: LoraLayer) -> torch.Tensor:
    """What an adapter adds to its layer's weight, alpha / rank * B A, [out, in], float32."""
    (name,) = layer.active_adapters
    factor_in, factor_out = (
        cast(nn.Linear, factors[name]).weight for factors in (layer.lora_A, layer.lora_B)
    )
    scale: float = layer.scaling[name]
    return scale * (_whole(factor_out).float() @ _whole(factor_in).float())


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """No dropout and no gradient while the block lasts."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def _adapted_layers(network: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    from peft.tuners.lora import LoraLayer

    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _adding(delta_OI: torch.Tensor) -> Hook:
    def add(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + functional.linear(inputs[0], delta_OI.to(inputs[0].dtype))

    return add


def _ema(decay: float) -> Callable[[int], float]:
    return lambda update: decay


def _refreshed(every: int) -> Callable[[int], float]:
    return lambda update: 0.0 if update % every == 0 else 1.0


def _move(average: torch.Tensor, current: torch.Tensor, decay: float) -> None:
    average.lerp_(current.to(average.dtype), 1 - decay)


def _no_change(weight: torch.Tensor) -> torch.Tensor:
    """Zeros for all of a weight, also where each process holds a shard."""
    return torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)


def _whole(weight: torch.Tensor) -> torch.Tensor:
    """All of a weight, also where each process holds a shard."""
    gather = getattr(weight, "full_tensor", None)
    whole: torch.Tensor = weight.detach() if gather is None else gather().detach()
    return whole


def _put_back(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    _refuse_strange(state, own)
    for name, tensor in own.items():
        tensor.copy_(state[name])


def _refuse_strange(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    strange = {
        name
        for name in {*state, *own}
        if name not in state or name not in own or state[name].shape != own[name].shape
    }
    if strange:
        raise CheckpointError(f"the teacher's state is another teacher's: {min(strange)!r} differs")
