"""Synthetic run folders in the layout that training, evaluation and analysis write.

The figures are drawn from a seeded generator around an effect for each condition; nothing here was
trained. One completion, one trace and one context hold markup, which a report must not obey.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sdbench import stats
from sdbench.audit import Finding
from sdbench.audit import summarise as summarise_audit
from sdbench.evaluate.evaluation import score_name
from sdbench.evaluate.score import summarise
from sdbench.evaluate.select import cross_fit, select
from sdbench.records import CritiqueCase
from sdbench.rundir import JsonValue, Row, RunDir, append_rows, write_json

EFFECTS = {"critique": 1.3, "reference": 0.55, "grpo": 0.6, "grpo_matched_rollouts": 0.15}
MARKUP = "<script>alert('x')</script>"
UPDATES, SAVE_EVERY = 60, 10


@dataclass(frozen=True)
class Shape:
    """How large the synthetic benchmark is."""

    seeds: int = 3
    problems: int = 40
    k: int = 12
    validation_problems: int = 20
    validation_k: int = 4
    task: str = "arithmetic"
    model: str = "organism"
    cross_fit: bool = False


def write_suite(
    out: Path,
    conditions: Sequence[str] = tuple(EFFECTS),
    shape: Shape = Shape(),
    *,
    base: bool = True,
) -> list[Path]:
    """Writes the run folders of a suite and returns them."""
    folders = []
    if base:
        folders.append(out / "tiny" / "base" / "seed0")
        _write_base(folders[-1], shape)
    for condition in conditions:
        for seed in range(shape.seeds):
            folders.append(out / "tiny" / condition / f"seed{seed}")
            write_run(folders[-1], condition, seed, shape)
    return folders


def write_model(root: Path, name: str, skill: float, shape: Shape = Shape()) -> Path:
    """Writes the folder of a model that was not trained, as `sdbench eval MODEL` does."""
    run = RunDir(root)
    write_json(run.manifest, _model_manifest(name, shape))
    _evaluate(run, name, "test", skill, shape)
    return root


def write_run(root: Path, condition: str, seed: int, shape: Shape = Shape()) -> None:
    """Writes one evaluated run."""
    run = RunDir(root)
    effect = EFFECTS[condition]
    wobble = random.Random(f"{condition} {seed}").gauss(0, 0.08)
    write_json(run.manifest, _manifest(condition, seed, shape))
    results: dict[str, Row] = {}
    for update in range(0, UPDATES + 1, SAVE_EVERY):
        label = f"{update:06d}"
        skill = (effect + wobble) * (1 - math.exp(-update / 20)) if update else 0.0
        skill -= 0.15 * max(0, update - 40) / 20
        split = "test" if shape.cross_fit else "validation"
        results[label] = _evaluate(run, label, split, skill, shape)
    if shape.cross_fit:
        _write_fitted(run, results, shape)
    else:
        chosen = select(results, f"avg@{shape.validation_k}")
        write_json(run.selection, chosen.as_row())
        for label in chosen.tested:
            late = 0.15 if label == chosen.last else 0.0
            _evaluate(run, label, "test", effect + wobble - late, shape)
    if condition in ("critique", "reference"):
        write_json(run.advantages, _advantage(condition, shape))
    if condition == "critique":
        write_json(run.audit, _audit(seed, shape))


def _write_fitted(run: RunDir, results: Mapping[str, Row], shape: Shape) -> None:
    """A checkpoint for each half of the test problems, as cross-fitting writes them."""
    chosen, rows = cross_fit(results, f"avg@{shape.k}")
    write_json(run.selection, chosen.as_row())
    folder = run.evaluation("cross-fit", shape.task, "test", "halves") / score_name(shape.k)
    about = {**results[chosen.last], "checkpoint": "cross-fit"}
    write_json(folder / "results.json", {**about, **summarise(rows, shape.k)})


def _model_manifest(name: str, shape: Shape) -> Row:
    shown = _manifest("base", 0, shape)
    suite: Row = {
        "name": name,
        "title": f"{name} on {shape.task}",
        "model": name,
        "task": shape.task,
        "engine": {"name": "hf"},
        "evaluation": {"k": shape.k, "temperature": 1.0, "max_tokens": 96, "seed": 0},
    }
    return {
        **shown,
        "suite_name": name,
        "suite": suite,
        "condition": name,
        "label": name,
        "model": {"source": name, "sha256": hashlib.sha256(name.encode()).hexdigest()[:12]},
        "data": {"task": shape.task},
        "command": f"sdbench eval {name}",
        "ledger": {},
    }


def _write_base(root: Path, shape: Shape) -> None:
    run = RunDir(root)
    write_json(run.manifest, {**_manifest("base", 0, shape), "label": "000000", "ledger": {}})
    for split in ("validation", "test"):
        _evaluate(run, "000000", split, 0.0, shape)


def _manifest(condition: str, seed: int, shape: Shape) -> Row:
    rollouts = 8 if condition == "grpo" else 1
    problems = 0 if condition == "base" else UPDATES * (4 if "matched" in condition else 32)
    completions = UPDATES * 32 * rollouts if problems else 0
    told = completions if condition in ("critique", "reference") else 0
    seconds = {
        "rollout": 0.011 * completions,
        "feedback": 0.002 * told,
        "teacher": 0.006 * told,
        "update": 0.009 * completions,
        "checkpoint": 1.2 if problems else 0.0,
    }
    return {
        "suite_name": "tiny",
        "suite": {
            "name": "tiny",
            "title": "Feedback in self-distillation, shown on a model organism",
            "model": shape.model,
            "task": shape.task,
            "evaluation": {"k": shape.k, "validation_k": shape.validation_k, "temperature": 1.0},
            "train": {"updates": UPDATES, "save_every": SAVE_EVERY, "learning_rate": 1e-3},
        },
        "condition": condition,
        "seed": seed,
        "model": {"source": shape.model, "sha256": "a6f0c2d9e41b"},
        "data": {"task": shape.task, "train_problems": 4096, "sha256": "5be1170d9f02"},
        "command": f"sdbench train --suite tiny --condition {condition} --seed {seed}"
        if problems
        else f"sdbench bench tiny --seeds {shape.seeds}",
        "started": f"2026-01-0{1 + seed}T08:00:00+00:00",
        "git": "0123456789ab",
        "versions": {"sdbench": "0.1.0", "python": "3.12.4", "torch": "2.9.0"},
        "hardware": {"cpu": "Example CPU", "cores": 2, "device": "cpu"},
        "ledger": {
            "updates": UPDATES if problems else 0,
            "problems": problems,
            "completions": completions,
            "tokens_generated": 47 * completions,
            "tokens_trained": 44 * completions,
            "teacher_tokens": 121 * told,
            "critic_tokens": 0,
            "critic_tokens_stored": 0,
            "untaught_rollouts": completions // 9 if "grpo" in condition else 0,
            "seconds": {**seconds, "total": 1.02 * sum(seconds.values())},
        },
    }


def _evaluate(run: RunDir, label: str, split: str, skill: float, shape: Shape) -> Row:
    """Draws outcomes of one checkpoint and writes samples, verdicts and results."""
    count, k = (
        (shape.problems, shape.k)
        if split == "test"
        else (shape.validation_problems, shape.validation_k)
    )
    untrained = "base seed0" if label == "000000" else f"{run.root.parent.name} {run.root.name}"
    draws = random.Random(f"{untrained} {label} {split}")
    hard = random.Random(f"difficulty {split}")
    samples: list[Row] = []
    verdicts: list[Row] = []
    outcomes: dict[str, list[bool]] = {}
    votes: dict[str, list[stats.Vote]] = {}
    for index in range(count):
        problem = f"{shape.task}-{split}-{index:03d}"
        chance = 1 / (1 + math.exp(-(hard.gauss(-0.4, 1.1) + skill)))
        for number in range(k):
            status = _status(draws, chance)
            answer = {"correct": "7", "incorrect": str(draws.randint(8, 10))}.get(status)
            outcomes.setdefault(problem, []).append(status == "correct")
            votes.setdefault(problem, []).append(stats.Vote(answer, status == "correct"))
            sample = f"{problem}#{number}"
            text = MARKUP if index == number == 0 else f"<answer>{answer}</answer>"
            length = 96 if status == "truncated" else draws.randint(34, 60)
            samples.append(
                {
                    "id": sample,
                    "problem_id": problem,
                    "index": number,
                    "text": text,
                    "completion_tokens": length,
                    "finish_reason": "length" if status == "truncated" else "stop",
                }
            )
            verdicts.append(
                {"id": sample, "status": status, "answer": answer, "verifier": "exact 1"}
            )
    folder = run.evaluation(label, shape.task, split, "0a1b2c3d4e5f")
    append_rows(folder / "samples.jsonl", samples)
    append_rows(folder / score_name(k) / "verdicts.jsonl", verdicts)
    results = _results(label, split, k, shape, outcomes, votes, samples, verdicts)
    write_json(folder / score_name(k) / "results.json", results)
    return results


def _status(draws: random.Random, chance: float) -> str:
    if draws.random() < chance:
        return "correct"
    return draws.choices(["incorrect", "truncated", "unparsable"], [90, 7, 3])[0]


def _results(
    label: str,
    split: str,
    k: int,
    shape: Shape,
    outcomes: Mapping[str, Sequence[bool]],
    votes: Mapping[str, Sequence[stats.Vote]],
    samples: Sequence[Row],
    verdicts: Sequence[Row],
) -> Row:
    avg = stats.avg_by_problem(outcomes)
    passed = [stats.pass_by_problem(outcomes, m) for m in range(1, k + 1)]
    majority = [stats.maj_by_problem(votes, m) for m in range(1, k + 1)]
    statuses = {row["id"]: row["status"] for row in verdicts}
    by_problem: dict[str, list[Row]] = {}
    for row in samples:
        by_problem.setdefault(str(row["problem_id"]), []).append(row)
    per_problem: Row = {
        problem: {
            "avg": avg[problem],
            "pass": passed[-1][problem],
            "maj": majority[-1][problem],
            "length": sum(row["completion_tokens"] for row in rows) / k,  # type: ignore
            **{
                status: sum(statuses[row["id"]] == status for row in rows) / k
                for status in ("truncated", "unparsable", "timeout")
            },
            "all_steps_right": 0.8 * avg[problem],
            "correct": [int(one) for one in outcomes[problem]],
            "pass_at": [values[problem] for values in passed],
            "maj_at": [values[problem] for values in majority],
        }
        for problem, rows in by_problem.items()
    }
    problems = hashlib.sha256(f"{shape.task} {split} {len(avg)}".encode()).hexdigest()
    return {
        "checkpoint": label,
        "model": shape.model,
        "task": shape.task,
        "split": split,
        "k": k,
        "problems": len(avg),
        "settings": {
            "model": "a6f0c2d9e41b",
            "engine": "hf",
            "temperature": 1.0,
            "max_tokens": 96,
            "seed": 0,
        },
        "problems_sha256": problems,
        "verifiers": ["exact 1"],
        **summarise(per_problem, k),
    }


TRACES = (
    (
        "8-4*0-0-8",
        "0",
        (("0 : 0 x 4", "correct"), ("6 : 8 ~ 0", "first_wrong"), ("6 : 6 ~ 0", "later")),
        "6",
    ),
    (
        "9*9+3*0+6-3",
        "4",
        (("0 : 0 x 3", "correct"), ("3 : 9 x 9", "first_wrong"), ("0 : 3 ~ 3", "later")),
        "0",
    ),
    (
        "7-7+6*3+1",
        "9",
        (("8 : 3 x 6", "correct"), ("8 : 1 & 7", "correct"), ("9 : 8 & 1", "correct")),
        "9",
    ),
)
CONTEXTS = {
    "critique": "<step_1>{right}</step_1> then go on to <answer>{answer}</answer>",
    "reference": "<step_1>{other}</step_1><answer>{answer}</answer> " + MARKUP,
}
STRENGTH = {
    "critique": {"correct": 0.05, "first_wrong": -2.4, "later": -0.5},
    "reference": {"correct": -0.6, "first_wrong": -1.1, "later": -0.7},
}


def _advantage(condition: str, shape: Shape) -> Row:
    draws = random.Random(condition)
    strength = STRENGTH[condition]
    spread = {role: 0.06 + 0.05 * abs(value) for role, value in strength.items()}
    scored = max(1, shape.problems // 2)
    per_trace = {str(index): draws.betavariate(*_shares(condition)) for index in range(scored)}
    return {
        "traces_asked": shape.problems,
        "traces": shape.problems,
        "traces_with_wrong_step": scored,
        "policy": "untrained",
        "localisation": {
            "pooled": 0.68 if condition == "critique" else 0.31,
            "per_trace": asdict(stats.estimate(per_trace)),
            "uniform": 0.24,
        },
        "mean_advantage": {
            role: asdict(
                stats.estimate({str(i): draws.gauss(value, 6 * spread[role]) for i in range(40)})
            )
            for role, value in strength.items()
        },
        "examples": [_example(condition, index, draws) for index in range(len(TRACES))],
    }


def _audit(seed: int, shape: Shape) -> Row:
    """Of a critic that is a model, mostly faithful, and wrong about some first errors."""
    draws = random.Random(f"audit {seed}")
    findings = [_finding(f"{shape.task}-train-{index:03d}", draws) for index in range(60)]
    return {
        "source": f"runs/tiny/critique/seed{seed}",
        "task": shape.task,
        "critic": "model",
        "truth": "oracle",
        **summarise_audit(findings, attempts=62),
        "critic_tokens": 60 * 700,
        "critic_tokens_stored": 0,
    }


def _finding(problem: str, draws: random.Random) -> Finding:
    true = draws.choices([*CritiqueCase], [2, 1, 1, 8])[0]
    name = f"{problem}#0"
    if draws.random() < 0.05:
        return Finding(name, problem, None, true, ("unparsable",), parsed=False)
    named = true if draws.random() < 0.8 else draws.choice([*CritiqueCase])
    quoted, share = draws.random() < 0.1, draws.choice([1.0, 1.0, 1.0, 0.8])
    faults = (*(("inexact",) if share < 0.9 else ()), *(("quoted",) if quoted else ()))
    return Finding(
        rollout_id=name,
        problem_id=problem,
        case=named,
        true_case=true,
        faults=faults,
        parsed=True,
        verbatim=share,
        exact=share == 1,
        quoted=quoted,
        leaked=draws.random() < 0.05,
        answer_right=draws.random() < 0.95,
        first_error_right=draws.random() < 0.7,
        case_right=named is true,
        agrees_on_first_error=draws.random() < 0.6,
        agrees_on_case=draws.random() < 0.7,
        tokens=40,
        ratio=draws.uniform(0.8, 1.3),
    )


def _shares(condition: str) -> tuple[float, float]:
    return (6.0, 3.0) if condition == "critique" else (3.0, 6.5)


def _example(condition: str, index: int, draws: random.Random) -> Row:
    prompt, right, steps, answer = TRACES[index]
    tokens: list[JsonValue] = []
    for number, (content, role) in enumerate(steps, 1):
        texts = [f"<step_{number}>", *content, f"</step_{number}>"]
        tokens += [_token(condition, text, role, draws) for text in texts]
    last = steps[-1][1]
    tokens += [
        _token(condition, text, last, draws) for text in ("<answer>", *answer, "</answer>", "<eos>")
    ]
    if index == 1:
        tokens.insert(-1, _token(condition, MARKUP, last, draws))
    context = CONTEXTS[condition].format(right=steps[0][0], other=steps[0][0][::-1], answer=right)
    return {
        "problem_id": f"arithmetic-validation-{index:03d}",
        "prompt": prompt,
        "answer": right,
        "correct": right == answer,
        "context": context,
        "tokens": tokens,
    }


def _token(condition: str, text: str, role: str, draws: random.Random) -> Row:
    """Most tokens are near zero; digits and signs carry what their role has."""
    weight = 2.2 if text.isdigit() else 0.15
    value = weight * STRENGTH[condition][role] + draws.gauss(0, 0.12)
    return {"text": text, "advantage": round(value, 4), "role": role}
