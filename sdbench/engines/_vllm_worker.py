"""What vLLM's workers on CPU can do besides: renew the output layer after weights were reloaded.

On CPU each linear layer computes with a packed copy of its weight. Where embeddings are tied, vLLM
0.32 reloads the weight by way of the embeddings alone, and the output layer goes on with the old copy.
"""

from __future__ import annotations

from typing import Any


class Worker:
    """Becomes a base class of vLLM's own worker, as vLLM's option `worker_extension_cls` has it."""

    model_runner: Any

    def repack_output_layer(self) -> None:
        """Packs the weight of the output layer anew."""
        from vllm.model_executor.layers.vocab_parallel_embedding import (
            ParallelLMHead,
            UnquantizedEmbeddingMethod,
        )

        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                method = layer.quant_method
                if isinstance(method, UnquantizedEmbeddingMethod):
                    method.process_weights_after_loading(layer)
