"""The organism's tokenizer: one token a character, one token a tag, with a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
CONTEXT_OPEN, CONTEXT_CLOSE, SOLVE, REJECTED = "<ctx>", "</ctx>", "<sol>", "<wrong>"
MAX_STEPS = 8
MAX_LENGTH = 512

SPECIAL = (PAD, BOS, EOS, UNKNOWN)
TAGS = (
    *(CONTEXT_OPEN, CONTEXT_CLOSE, SOLVE, REJECTED, "<answer>", "</answer>"),
    *(f"<step_{number}>" for number in range(1, MAX_STEPS + 1)),
    *(f"</step_{number}>" for number in range(1, MAX_STEPS + 1)),
)
CHARACTERS = tuple("0123456789+-*= .,:;()[]x&~^_abcdefgh")
VOCABULARY = (*SPECIAL, *TAGS, *CHARACTERS)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ message['content'] }}<sol>{% endif %}{% endfor %}"
)


def build() -> PreTrainedTokenizerFast:
    """The tokenizer; its vocabulary is `VOCABULARY`, in that order.

    Tags are ordinary added tokens, not special ones, so that decoding for a reader, or by an
    engine that skips special tokens, keeps the steps.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
