"""The chunked divergence against the plain one at the size of a language model: memory and time.

    python tests/benchmarks/chunked.py [--vocabulary 151936] [--hidden 2048] [--tokens 2048]

Both sides run the project's forward KL, forward and backward to the hidden states, with a frozen
output layer as LoRA leaves it, in processes of their own. Memory is the most that the process held
over what it held with the weights and hidden states loaded. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does; on both sides

import torch

from sdbench.losses import forward_kl
from sdbench.losses.base import LossInputs
from sdbench.train.chunked import Observed, chunked_loss, logits

CHUNK_LOGITS = 2**25  # the wider the model, the more a chunk must hold to be fast


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=2_048)
    parser.add_argument("--tokens", type=int, default=2_048)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--side", choices=["chunked", "plain"])
    arguments = parser.parse_args()
    if arguments.side is not None:
        print(json.dumps(measure(arguments)))
        return
    sides = {side: _in_own_process(side) for side in ("chunked", "plain")}
    chunked, plain = sides["chunked"], sides["plain"]
    print(
        json.dumps(
            {
                "size": {
                    n: getattr(arguments, n) for n in ("vocabulary", "hidden", "tokens", "dtype")
                },
                **sides,
                "loss_difference": abs(chunked["loss"] - plain["loss"]),
                "memory_ratio": chunked["peak_gib"] / plain["peak_gib"],
                "time_ratio": chunked["seconds"] / plain["seconds"],
            },
            indent=2,
        )
    )


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """One side, in this process."""
    dtype = getattr(torch, arguments.dtype)
    draw = torch.Generator().manual_seed(0)

    def normal(rows: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(rows, arguments.hidden, generator=draw) * scale).to(dtype)

    weight_VH = normal(arguments.vocabulary, arguments.hidden**-0.5)
    hidden_NH, taught_NH = normal(arguments.tokens).requires_grad_(), normal(arguments.tokens)
    ids_N = torch.zeros(arguments.tokens, dtype=torch.long)
    zeros_N = torch.zeros(arguments.tokens)
    loss = forward_kl.build(forward_kl.Config())

    def score(logits_nV: torch.Tensor, part: slice) -> tuple[torch.Tensor, Observed]:
        with torch.no_grad():
            taught_nV = logits(taught_NH[part], weight_VH, None)
        inputs = LossInputs(ids_N[part], logits_nV, zeros_N[part], 1.0, teacher_logits_NV=taught_nV)
        return loss(inputs) / arguments.tokens, {}

    before = held_now()
    start = time.perf_counter()
    if arguments.side == "chunked":
        total, _ = chunked_loss(hidden_NH, weight_VH, None, score, CHUNK_LOGITS)
    else:
        total = score(logits(hidden_NH, weight_VH, None), slice(0, arguments.tokens))[0].sum()
    total.backward()
    seconds = time.perf_counter() - start
    return {"loss": total.item(), "seconds": seconds, "peak_gib": peak() - before}


def held_now() -> float:
    """What this process holds, GiB; the peak starts here."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # so that what was freed does not count as held
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """The most that it held since then, GiB."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**20


def _in_own_process(side: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv, "--side", side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
