"""One update against TRL's, and where the time of ours goes: `make bench-train`.

For the tiny solver and for a shrunk Qwen3 with the whole vocabulary of 151,936, the same batch goes
through TRL's SDFT trainer with full logits and through our forward KL, and through TRL's GRPO trainer
and our policy gradient: the very token ids, masks and advantages that TRL's trainer made. An update
is everything from the first forward pass, the teacher's included, to the optimiser's step; sampling is
left out on both sides. TRL's trainer runs as it comes, the whole batch in one pass, and once more with
the huge pages that our command line asks torch for; ours takes 16 rollouts a pass, as the suite `tiny`
does. Each side runs in a process of its own, on one thread; the first update is left out, of the
others the fastest counts. Memory is the most that the process held during an update over what it held
before.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from chunked import held_now, peak

from sdbench import provenance

HERE = Path(__file__).parent
UPDATES = 4
QWEN3: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4_096,
    "tie_word_embeddings": True,
}
# What our command line sets for itself: chunks come and go, and huge pages make that cheap.
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
# Rollouts, and tokens of each.
SIZES = {"tiny": (64, 64), "qwen3": (8, 128)}
PROMPT = [{"role": "user", "content": "3+4*2"}]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["trl", "sdbench"])
    parser.add_argument("--method", choices=["sdft", "grpo"], default="sdft")
    parser.add_argument("--model", choices=list(SIZES), default="tiny")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.side is not None:
        side = trl_side if arguments.side == "trl" else sdbench_side
        print(json.dumps(side(arguments.method, arguments.model, arguments.folder)))
        return
    about = provenance.describe()
    print(
        json.dumps(
            {
                "started": about["started"],
                "commit": about["git"],
                "hardware": about["hardware"],
                "against_trl": [compare(method, m) for m in SIZES for method in ("sdft", "grpo")],
                "chunked_divergence": _json_of([str(HERE / "chunked.py")]),
                "where_time_goes": {arm: where_time_goes(arm) for arm in ("critique", "grpo")},
            },
            indent=2,
        )
    )


def compare(method: str, model: str) -> dict[str, Any]:
    """Both sides on one batch."""
    with tempfile.TemporaryDirectory() as folder:
        make_model(model, Path(folder))
        common = [__file__, "--method", method, "--model", model, "--folder", folder]
        trl = _json_of([*common, "--side", "trl"])
        with_pages = _json_of([*common, "--side", "trl"], **HUGE_PAGES)
        ours = _json_of([*common, "--side", "sdbench"], **HUGE_PAGES)
    return {
        "model": model,
        "peer": method,
        "rollouts": SIZES[model][0],
        "tokens_each": SIZES[model][1],
        "trl": trl,
        "trl_with_huge_pages": with_pages,
        "sdbench": ours,
        "time_ratio": round(ours["seconds"] / trl["seconds"], 3),
        "time_ratio_with_huge_pages": round(ours["seconds"] / with_pages["seconds"], 3),
        "memory_ratio": round(ours["peak_mib"] / trl["peak_mib"], 3),
    }


def make_model(name: str, folder: Path) -> None:
    """A model folder: the tiny solver, or a random Qwen3 with its tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from sdbench import models

    organism = models.load("organism")
    if name == "tiny":
        network = organism.network
    else:
        torch.manual_seed(0)
        ends = organism.end_ids[0]
        pads = organism.tokenizer.pad_token_id
        network = Qwen3ForCausalLM(Qwen3Config(**QWEN3, eos_token_id=ends, pad_token_id=pads))
    network.save_pretrained(folder)
    organism.tokenizer.save_pretrained(folder)


def trl_side(method: str, model: str, folder: Path) -> dict[str, float]:
    """TRL's trainer; leaves the batch that it trained on in `batch.pt`."""
    from datasets import Dataset

    rollouts, tokens = SIZES[model]
    common: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": rollouts,
        "max_completion_length": tokens,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "max_steps": UPDATES,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "learning_rate": 1e-4,
    }

    def given(rows: int) -> list[list[int]]:
        draw = torch.Generator().manual_seed(1)
        return torch.randint(4, 60, (rows, tokens), generator=draw).tolist()

    prompts: dict[str, list[Any]] = {"prompt": [PROMPT] * (rollouts * UPDATES)}
    trainer: Any
    if method == "grpo":
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer

        def reward(completions: list[Any], **_: Any) -> list[float | None]:
            return [float(row % 2) for row in range(len(completions))]

        grpo = GRPOConfig(num_generations=rollouts, beta=0.0, loss_type="dapo", **common)
        trainer = GRPOTrainer(
            model=str(folder),
            reward_funcs=reward,
            args=grpo,
            train_dataset=Dataset.from_dict(prompts),
        )
        trainer._generate_single_turn = lambda ids, *_: (given(len(ids)), None)
    else:
        from trl.experimental.sdft import SDFTConfig, SDFTTrainer

        prompts["privileged_context"] = ["<step_1>4*2=8</step_1><answer>1</answer>"] * len(
            prompts["prompt"]
        )
        sdft = SDFTConfig(
            num_generations=1,
            max_prompt_length=None,
            teacher_model_kind="base",
            distillation_mode="full_logits",
            distillation_alpha=0.0,
            **common,
        )
        trainer = SDFTTrainer(
            model=str(folder), args=sdft, train_dataset=Dataset.from_dict(prompts)
        )
        trainer._generate = lambda ids: (ids, given(len(ids)))
    return _clocked(trainer, folder / "batch.pt")


def _clocked(trainer: Any, kept: Path) -> dict[str, float]:
    """Trains; times each update from the loss to the end of the optimiser's step."""
    from transformers import TrainerCallback

    measure = Measure()
    inner = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        if not kept.exists():
            tensors = {n: v for n, v in inputs.items() if isinstance(v, torch.Tensor)}
            torch.save(tensors, kept)
        measure.begin()
        return inner(model, inputs, *rest, **options)

    class Ends(TrainerCallback):
        """Stops the clock."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            measure.end()

    trainer.compute_loss = compute_loss
    trainer.add_callback(Ends())
    silent = sys.stdout
    sys.stdout = sys.stderr
    try:
        trainer.train()
    finally:
        sys.stdout = silent
    return measure.result()


def sdbench_side(method: str, model: str, folder: Path) -> dict[str, float]:
    """Our policy, on the batch that TRL's trainer left."""
    from accelerate import Accelerator

    from sdbench import assembly, models
    from sdbench.conditions.base import resolve
    from sdbench.config import load_suite
    from sdbench.train.policy import Objective, Policy

    _, tokens = SIZES[model]
    suite = load_suite("tiny", [f'model="{folder}"', "train.learning_rate=1e-4"])
    arm = resolve(suite, "critique" if method == "sdft" else "grpo")
    network = models.load(str(folder))
    policy = Policy(
        network,
        suite,
        Accelerator(cpu=True),
        lambda: models.load(str(folder)).network,
        teaches=arm.config.teaches,
    )
    items = items_of(torch.load(folder / "batch.pt"))
    loss = assembly.loss(suite, arm)
    measure = Measure()
    for update in range(1, UPDATES + 1):
        measure.begin()
        policy.update(items, Objective(loss, 1.0, tokens, "token", update))
        measure.end()
    return measure.result()


def items_of(batch: dict[str, torch.Tensor]) -> list[Any]:
    """TRL's padded batch as items."""
    from sdbench.models import student_view
    from sdbench.train.batch import Item

    made = []
    for row in range(len(batch["completion_ids"])):
        completion = _unpadded(batch["completion_ids"][row], batch["completion_mask"][row])
        prompt = _unpadded(batch["prompt_ids"][row], batch["prompt_mask"][row])
        teacher = None
        if "teacher_input_ids" in batch:
            whole = _unpadded(batch["teacher_input_ids"][row], batch["teacher_attention_mask"][row])
            assert whole[-len(completion) :] == completion
            teacher = student_view(whole[: -len(completion)], completion)
        advantage = float(batch["advantages"][row]) if teacher is None else None
        view = student_view(prompt, completion)
        zeros = (0.0,) * len(completion)
        made.append(Item(str(row), view, tuple(completion), zeros, advantage, teacher))
    return made


def _unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[int]:
    return ids[mask.bool()].tolist()


def where_time_goes(arm: str) -> dict[str, float]:
    """Shares of the wall time of a training run of the tiny suite, start-up left out."""
    from sdbench.config import load_suite
    from sdbench.train.loop import train

    suite = load_suite("tiny", ["train.updates=12", "train.save_every=6"])
    log: list[dict[str, Any]] = []
    clock: list[float] = []

    def progress(_: int, row: dict[str, Any]) -> None:
        clock.append(time.perf_counter())
        log.append(row)

    with tempfile.TemporaryDirectory() as folder:
        train(suite, arm, 0, Path(folder), progress)
    # The first update warms up: it loads the teacher and starts the grader's workers.
    wall = clock[-1] - clock[1]
    parts = {"sampling": "time/rollout", "teacher": "time/teacher", "critic": "time/critic"}
    parts["forward, backward and optimiser"] = "time/update"
    shares = {n: sum(row[key] for row in log[2:]) / wall for n, key in parts.items()}
    shares["everything else"] = 1 - sum(shares.values())
    return {"seconds an update": round(wall / (len(clock) - 2), 4)} | {
        name: round(share, 4) for name, share in shares.items()
    }


class Measure:
    """Time and peak memory of each update."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._peaks: list[float] = []
        self._held = self._start = 0.0

    def begin(self) -> None:
        """Starts the clock, and the peak at what is held now."""
        self._held, self._start = held_now(), time.perf_counter()

    def end(self) -> None:
        """Stops both."""
        self._seconds.append(time.perf_counter() - self._start)
        self._peaks.append((peak() - self._held) * 1024)

    def result(self) -> dict[str, float]:
        """The fastest update and the highest peak, the first left out."""
        return {
            "seconds": round(min(self._seconds[1:]), 4),
            "peak_mib": round(max(self._peaks[1:]), 1),
        }


def _json_of(command: list[str], **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.strip().splitlines()[-1] if "--side" in command else done.stdout)


if __name__ == "__main__":
    main()
