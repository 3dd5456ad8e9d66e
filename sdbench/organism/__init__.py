"""The tiny solver: a model organism that shows the mechanism on a laptop.

A Llama-architecture model of half a million parameters with a character tokenizer. It is built to
have errors of a known kind, so that feedback has something to correct; it is no evidence about
language models. `tokenizer` and `corpus` say what it reads, `pretrain` makes its weights, `weights/`
holds the ones that ship.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
