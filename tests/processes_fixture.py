"""Processes that start quickly, so that a kill strikes their work and not their imports."""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from multiprocessing.context import ForkServerContext

# One server forks for every test of a session, so it has loaded what any of them needs.
PRELOADED = [
    "accelerate",
    "datasets",
    "lm_eval.tasks",
    "sdbench.critics.oracle",
    "sdbench.dashboard",
    "sdbench.engines.hf",
    "sdbench.eval_command",
    "sdbench.losses.forward_kl",
    "sdbench.losses.policy_gradient",
    "sdbench.suite",
    "torch.utils.tensorboard",
    "transformers.models.llama.modeling_llama",
]


@cache
def quick_processes() -> ForkServerContext:
    """A context whose processes are forked from one that has these modules loaded by now."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process(target=os.getpid)
    first.start()
    first.join()
    return context
