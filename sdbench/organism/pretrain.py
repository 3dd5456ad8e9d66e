"""Makes the organism's weights from nothing: one corpus, one schedule, one seed.

In: a `Recipe`. Out: a folder in transformers layout, with the recipe beside the weights. The same
recipe gives the same weights on the same machine with the same versions and number of threads.
The recipe was written down before any condition was trained on its result.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from sdbench.organism import corpus, tokenizer
from sdbench.organism.corpus import Document

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

POOL = 600
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        seed: Of initial weights, corpus and order.
        updates: Optimiser updates.
        facts_first: Share of the updates, at the start, that see only problems solved without
            context. Mixed in from the start, copying is learned and the facts are not.
        tokens_per_update: Upper bound on the tokens of a batch, padding included.
        matrix_learning_rate: Peak for the weight matrices, which Muon updates.
        other_learning_rate: Peak for embedding and norms, which AdamW updates.
        warmup_updates: Linear rise to the peak.
        decay_from: Share of the updates after which the rate falls linearly.
        final_share: Share of the peak at the end.
        threads: CPU threads; another number gives slightly other weights.
    """

    seed: int = 1
    updates: int = 2000
    facts_first: float = 0.15
    tokens_per_update: int = 4096
    matrix_learning_rate: float = 0.02
    other_learning_rate: float = 0.004
    warmup_updates: int = 40
    decay_from: float = 0.4
    final_share: float = 0.02
    threads: int = 2

    def learning_rate_share(self, update: int) -> float:
        """Share of the peak learning rate at this update (from 0)."""
        warm = min(1.0, (update + 1) / self.warmup_updates)
        start = self.decay_from * self.updates
        fall = (self.updates - update) / (self.updates - start) if update > start else 1.0
        return warm * max(self.final_share, fall)


def new_model(seed: int) -> LlamaForCausalLM:
    """The organism with fresh random weights: 497 thousand parameters, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ids = {token: index for index, token in enumerate(tokenizer.VOCABULARY)}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=tokenizer.MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=ids[tokenizer.BOS],
            eos_token_id=ids[tokenizer.EOS],
            pad_token_id=ids[tokenizer.PAD],
        )
    )


def pretrain(
    out: Path, recipe: Recipe, progress: Callable[[int, float], None] = lambda update, loss: None
) -> None:
    """Pretrains the organism and saves model, tokenizer and recipe.

    Args:
        out: Folder to write; must be absent or empty.
        recipe: What to do.
        progress: Called after each update with its number (from 1) and loss in nats per token.
    """
    torch.set_num_threads(recipe.threads)
    model = new_model(recipe.seed)
    model.train()
    text_tokenizer = tokenizer.build()
    optimizers = _optimizers(model, recipe)
    batches = _batches(recipe, text_tokenizer)
    for update in range(recipe.updates):
        share = recipe.learning_rate_share(update)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
        input_ids_BS, labels_BS = next(batches)
        logits_BSV = model(input_ids=input_ids_BS, use_cache=False).logits
        loss = F.cross_entropy(
            logits_BSV[:, :-1].flatten(0, 1), labels_BS[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        progress(update + 1, loss.item())
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    text_tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=recipe.matrix_learning_rate, weight_decay=0.01)
    adam = torch.optim.AdamW(
        others, lr=recipe.other_learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adam]


def _batches(
    recipe: Recipe, text_tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (input ids, labels), both [B, S], of documents of like length."""
    facts = corpus.documents(recipe.seed, {"solve": 1.0})
    mixed = corpus.documents(recipe.seed, corpus.MIX)
    rng = random.Random(recipe.seed)
    given = 0
    while True:
        stream = facts if given < recipe.facts_first * recipe.updates else mixed
        pool = sorted(
            encode([next(stream) for _ in range(POOL)], text_tokenizer),
            key=lambda pair: len(pair[0]),
        )
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if (len(batches[-1]) + 1) * len(pair[0]) > recipe.tokens_per_update:
                batches.append([])
            batches[-1].append(pair)
        rng.shuffle(batches)
        given += len(batches)
        for batch in batches:
            width = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch]),
                torch.tensor([labels + [IGNORED] * (width - len(ids)) for ids, labels in batch]),
            )


def encode(
    documents: Sequence[Document], text_tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of documents; prompts and untaught characters are not labelled."""
    prompts = [
        text_tokenizer.apply_chat_template(
            [{"role": "user", "content": document.prompt}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for document in documents
    ]
    prompt_ids = text_tokenizer(prompts, add_special_tokens=False)["input_ids"]
    responses = text_tokenizer(
        [document.response for document in documents],
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    pairs = []
    for document, prompt, ids, offsets in zip(
        documents, prompt_ids, responses["input_ids"], responses["offset_mapping"], strict=True
    ):
        targets = [
            IGNORED if document.untaught is not None and start <= document.untaught < end else token
            for token, (start, end) in zip(ids, offsets, strict=True)
        ]
        end_of_text = text_tokenizer.eos_token_id
        pairs.append(
            (prompt + ids + [end_of_text], [IGNORED] * len(prompt) + targets + [end_of_text])
        )
    return pairs
