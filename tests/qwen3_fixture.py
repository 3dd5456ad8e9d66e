"""Tiny random models with the tokenizers and chat templates of language models, made in a test.

A byte-level tokenizer is trained on a few lines, so any text makes a round trip. Its templates are the
project's own and render what those of Qwen3 and of SmolLM2 (ChatML) do for system, user and assistant
turns, Qwen3's think blocks included. So suites run on CPU, without a network, on models that differ
from the real ones in nothing but size and skill.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sdbench.organism.tokenizer import build as build_organism

Kind = Literal["qwen3", "smollm2", "organism"]

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK, THINK_END = "<think>", "</think>"
VOCABULARY_SIZE = 512

# Line ends are a piece of their own, as in Qwen2 and Qwen3, so none joins what follows it.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = (
    "user\nassistant\nsystem\n\n",
    "<step_1>There are 9*2 = 18 pink tiles.</step_1>\n<step_2>There are 40-9-18 = 13 left.</step_2>\n",
    "<answer>\\boxed{13}</answer>",
    "Reason step by step, and put the final answer in \\boxed{}.\n\n",
)

QWEN3 = """
{%- set last_user = namespace(index=-1) %}
{%- for turn in messages %}
{%- if turn.role == 'user' %}{% set last_user.index = loop.index0 %}{% endif %}
{%- endfor %}
{%- for turn in messages %}
{{- '<|im_start|>' + turn.role + '\\n' }}
{%- if turn.role == 'assistant' %}
{%- set thought, said = '', turn.content %}
{%- if '</think>' in turn.content %}
{%- set thought = turn.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set said = turn.content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > last_user.index and (loop.last or thought) %}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
{%- endif %}
{{- said }}
{%- else %}
{{- turn.content }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""
SMOLLM2 = """
{%- if messages[0].role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face' }}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for turn in messages %}
{{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""


def tokenizer(folder: Path, kind: Kind = "qwen3") -> PreTrainedTokenizerFast:
    """A tokenizer with its chat template, saved in the folder."""
    made = build_organism() if kind == "organism" else _byte_level(kind)
    made.save_pretrained(folder)
    return made


def tiny_model(
    folder: Path, kind: Kind = "qwen3", *, max_length: int = 2048, seed: int = 0
) -> Path:
    """A random model of this kind's architecture with its tokenizer, in transformers layout.

    Args:
        folder: Where it goes.
        kind: `qwen3`, `smollm2` (Llama's architecture) or `organism` (the same, other tokens).
        max_length: Most tokens that it reads.
        seed: Of its weights.

    Returns:
        The folder: a model's name for a suite.
    """
    made = tokenizer(folder, kind)
    shape = {
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": max_length,
        "tie_word_embeddings": True,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }
    network: PreTrainedModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "qwen3":
            network = Qwen3ForCausalLM(Qwen3Config(**shape))
        else:
            network = LlamaForCausalLM(LlamaConfig(**shape))
    ends = [made.eos_token_id]
    if kind == "qwen3":
        ends.append(made.pad_token_id)
    network.generation_config = GenerationConfig(eos_token_id=ends)
    network.save_pretrained(folder)
    return folder


def _byte_level(kind: Kind) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in (END, TURN, TURN_END)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
    )
    inner.train_from_iterator(TEXT, trainer)
    if (
        kind == "qwen3"
    ):  # Thoughts are read, so their tokens are kept when special ones are skipped.
        inner.add_tokens(
            [AddedToken(t, special=False, normalized=False) for t in (THINK, THINK_END)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=TURN_END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = QWEN3 if kind == "qwen3" else SMOLLM2
    return fast
