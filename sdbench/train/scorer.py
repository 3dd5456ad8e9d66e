"""A language model as training sees it: views in, a loss out, no logits of a whole batch.

It is one module, so that DDP and FSDP see all of the forward pass, the output layer included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from sdbench.errors import ConfigError
from sdbench.models import completion_hidden, completion_logits, decoder_of, head_of
from sdbench.records import TeacherView
from sdbench.train.chunked import Observed, Score, chunked_loss, logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scorer(nn.Module):
    """A network around which accelerate puts what distribution needs."""

    def __init__(self, network: PreTrainedModel, *, compiled: bool = False) -> None:
        """Takes a transformers model, or a peft model around one.

        Args:
            network: The model.
            compiled: Whether torch compiles what is scored, and nothing else: sampling changes its
                shapes with every token, and a teacher hooks into layers, which compiled code that
                saw none before would ignore.

        Raises:
            ConfigError: its logits are more than the output layer's product with hidden states.
        """
        super().__init__()
        self.network = network
        self._no_split_modules = getattr(network, "_no_split_modules", None)
        _refuse_scaled_logits(network)
        # In a tuple, since a module that is compiled would be a second name for the same weights.
        self._decoder = (torch.compile(decoder_of(network), dynamic=True) if compiled else None,)

    def forward(
        self, views: Sequence[TeacherView], score: Score | None, chunk_logits: int
    ) -> tuple[torch.Tensor, Observed]:
        """Scores completion tokens.

        Args:
            views: What is read, [B].
            score: Gives the losses of a chunk of tokens; see `chunked.chunked_loss`. None asks for
                hidden states instead.
            chunk_logits: Most logits at once.

        Returns:
            The sum of losses and what was observed; or the hidden states, [N, H], and nothing.
        """
        if score is None:
            return completion_hidden(self.network, views), {}
        hidden_NH = completion_hidden(self.network, views, self._decoder[0])
        head = head_of(self.network)
        return chunked_loss(hidden_NH, head.weight, head.bias, score, chunk_logits)


def _refuse_scaled_logits(network: PreTrainedModel) -> None:
    """Some architectures scale or cap their logits; a loss without that would be another one."""
    probe = [TeacherView((0, 1, 2), (1, 2))]
    training = network.training
    network.eval()
    with torch.no_grad():
        head = head_of(network)
        expected = completion_logits(network, probe)
        found = logits(completion_hidden(network, probe), head.weight, head.bias)
    network.train(training)
    wide = expected.to(found.dtype)
    if not torch.allclose(found, wide, atol=1e-3, rtol=1e-2):
        raise ConfigError(
            f"{type(network).__name__} changes its logits after the output layer; training allows"
            " models that do not"
        )
