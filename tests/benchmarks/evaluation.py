"""Evaluation against its peers, as ratios of rates measured in one run.

    make bench-eval

Peers: lm-eval's own `hf` model on the same task file and problems, bare `vllm.LLM.generate`, and
math-verify alone. Start-up (imports, reading weights, starting vLLM and workers) is left out on both
sides. Sides take turns, and the median of the turns counts, because machines are noisy. sdbench's
side is everything that `sdbench eval` does: drawing, writing samples, grading, scoring, results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from answers import mixed_answers

from sdbench import models, problems, prompts, provenance
from sdbench.config import PluginConfig, project_folder
from sdbench.engines.base import ignore
from sdbench.evaluate.evaluation import Plan, evaluate
from sdbench.evaluate.sample import Engines, Source
from sdbench.grading import Answer, Grader
from sdbench.records import FinishReason

K = 12
TURNS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: rates in units a second, and what they are wanted to be."""

    what: str
    unit: str
    ours: float
    peer: float
    wanted: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.peer


def against_lm_eval(count: int, peer_count: int, batch_size: int, wanted: float | None) -> Row:
    """Completions a second of the tiny solver on arithmetic, against lm-eval's `hf` model.

    Args:
        count: Problems for sdbench.
        peer_count: Problems for lm-eval, which takes long with a small batch.
        batch_size: Of lm-eval: 1 is what `lm_eval --model hf` does unasked; 256 was the fastest here.
        wanted: The ratio to reach.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(project_folder("tasks")), include_defaults=False)
    peer_model = HFLM(
        pretrained=models.source_of(models.ORGANISM),
        device="cpu",
        dtype="float32",
        batch_size=batch_size,
    )

    def peer() -> float:
        start = time.perf_counter()
        lm_eval.simple_evaluate(
            peer_model,
            tasks=["arithmetic"],
            task_manager=manager,
            limit=peer_count,
            apply_chat_template=True,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
        return peer_count * K / (time.perf_counter() - start)

    with Grader() as grader, Engines() as engines:
        source = Source(
            models.ORGANISM, "float32", PluginConfig(name="hf", options={"batch_rows": 512})
        )
        engines.open(source)

        def ours() -> float:
            with tempfile.TemporaryDirectory() as folder:
                plan = Plan(
                    Path(folder), "organism", source, "arithmetic", "test", count, K, 1.0, 96, 0
                )
                start = time.perf_counter()
                evaluate(plan, grader, engines, ignore)
                return count * K / (time.perf_counter() - start)

        rates = in_turns(ours, peer)
    return Row(
        f"tiny solver, against lm-eval's hf, batch {batch_size}", "completions", *rates, wanted
    )


def against_vllm(model: str, count: int, max_tokens: int) -> Row:
    """Tokens a second of a language model through vLLM, against bare `LLM.generate(n=12)`."""
    from vllm import LLM, SamplingParams, TokensPrompt

    task = "gsm_symbolic"
    found = models.open_model(model)
    problem_set = problems.load(task, "test", count)
    inputs = [
        TokensPrompt(
            prompt_token_ids=list(prompts.solver(found.tokenizer, "plain", problem.prompt))
        )
        for problem in problem_set
    ]
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    bare = LLM(model, dtype="float32", enforce_eager=True, max_model_len=2048)
    parameters = SamplingParams(n=K, temperature=1.0, max_tokens=max_tokens)

    def peer() -> float:
        bare.reset_prefix_cache()
        start = time.perf_counter()
        outputs = bare.generate(inputs, parameters, use_tqdm=False)
        tokens = sum(len(one.token_ids) for output in outputs for one in output.outputs)
        return tokens / (time.perf_counter() - start)

    options: dict[str, object] = {"max_model_len": 2048}
    with Grader() as grader, Engines() as engines:
        source = Source(model, "float32", PluginConfig(name="vllm", options=options))
        turns = iter(range(1000))

        def ours() -> float:
            with tempfile.TemporaryDirectory() as folder:
                seed = next(turns)
                plan = Plan(
                    *(Path(folder), "model", source, task, "test", count, K),
                    *(1.0, max_tokens, seed),
                )
                start = time.perf_counter()
                results = evaluate(plan, grader, engines, ignore)
                seconds = time.perf_counter() - start
                metrics = results["metrics"]
                assert isinstance(metrics, dict)
                length = metrics["length"]
                assert isinstance(length, dict)
                return float(str(length["value"])) * count * K / seconds

        ours()  # starts vLLM
        peer()
        rates = in_turns(ours, peer)
    return Row("SmolLM2-135M through vLLM, against LLM.generate", "tokens", *rates, 0.9)


def against_math_verify(count: int) -> Row:
    """Answers graded a second, against math-verify on the same answers in this process."""
    from math_verify import parse, verify

    rows = mixed_answers(count)

    def peer() -> float:
        start = time.perf_counter()
        for row in rows:
            verify(parse(f"\\boxed{{{row.gold}}}"), parse(row.response))
        return len(rows) / (time.perf_counter() - start)

    def ours() -> float:
        with Grader() as grader:
            # As many slow comparisons as start every worker.
            grader.grade(
                [
                    Answer(str(n), f"\\boxed{{(x+{n})^2+1}}", f"x^2+{n}", FinishReason.STOP)
                    for n in range(2, 40)
                ]
            )
            answers = [
                Answer(str(number), row.response, row.gold, FinishReason.STOP)
                for number, row in enumerate(rows)
            ]
            start = time.perf_counter()
            verdicts = grader.grade(answers)
            seconds = time.perf_counter() - start
        wrong = [
            row for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct != row.right
        ]
        if wrong:
            raise SystemExit(f"graded wrongly: {wrong[:3]}")
        return len(rows) / seconds

    return Row("grading, against math-verify", "answers", *in_turns(ours, peer), 20.0)


def in_turns(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[float, float]:
    """The median rates of both sides, one turn each after the other."""
    found = [(ours(), peer()) for _ in range(TURNS)]
    return median(rate for rate, _ in found), median(rate for _, rate in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="models/SmolLM2-135M-Instruct", help="For vLLM; none leaves it out."
    )
    parser.add_argument("--only", choices=["lm-eval", "vllm", "grading"])
    chosen = parser.parse_args()
    rows: list[Row] = []
    if chosen.only in (None, "grading"):
        rows.append(against_math_verify(10_000))
    if chosen.only in (None, "lm-eval"):
        rows.append(against_lm_eval(64, 4, 1, 5.0))
        rows.append(against_lm_eval(64, 64, 256, None))
    if chosen.only in (None, "vllm"):
        rows.append(against_vllm(chosen.model, 4, 64))
    for row in rows:
        verdict = ""
        if row.wanted is not None:
            verdict = "met" if row.ratio >= row.wanted else "missed"
            verdict = f" (wanted {row.wanted:g} or more: {verdict})"
        print(
            f"{row.what}: {row.ours:,.0f} against {row.peer:,.0f} {row.unit} a second,"
            f" ratio {row.ratio:.2f}{verdict}"
        )
    about = provenance.describe()
    print(json.dumps({name: about[name] for name in ("started", "git", "versions", "hardware")}))
    sys.exit(any(row.ratio < (row.wanted or 0) for row in rows))


if __name__ == "__main__":
    main()
