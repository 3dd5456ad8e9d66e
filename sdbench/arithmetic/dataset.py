"""The arithmetic task's data: what `tasks/arithmetic.yaml` loads.

Splits are drawn anew at every load, always the same: 4,096 training, 512 validation and 1,024 test
problems, disjoint from each other and from what the organism was pretrained on.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sdbench.arithmetic.expression import Expression, Split, stream
from sdbench.arithmetic.worked import reference_solution

if TYPE_CHECKING:
    from datasets import Dataset

SEED = 0
SIZES: dict[Split, int] = {"train": 4096, "validation": 512, "test": 1024}


def load(**_: object) -> dict[str, Dataset]:
    """Data sets by split; lm-eval passes its metadata, which has no bearing."""
    from datasets import Dataset

    return {
        split: Dataset.from_list([_document(e, split) for e in islice(stream(split, SEED), size)])
        for split, size in SIZES.items()
    }


def _document(expression: Expression, split: Split) -> dict[str, str]:
    return {
        "id": f"{split}:{expression.text}",
        "question": expression.text,
        "answer": str(expression.value),
        "solution": reference_solution(expression),
    }
