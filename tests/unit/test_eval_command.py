"""`sdbench eval` and `sdbench grade` as a user calls them, with the tiny solver and few problems."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from qwen3_fixture import tiny_model

from sdbench import eval_command, models, problems
from sdbench.config import load_suite
from sdbench.engines.base import ignore
from sdbench.evaluate.sample import Engines
from sdbench.grading import Grader
from sdbench.organism import WEIGHTS
from sdbench.rundir import Row, read_json, read_rows, write_json, write_rows

Run = Callable[..., int]
LIMIT = ("--limit", "5", "--k", "3")


def printed(capsys: pytest.CaptureFixture[str]) -> Row:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def only(pattern: str) -> Path:
    (found,) = Path().rglob(pattern)
    return found


def test_each_k_keeps_its_results_and_samples_are_shared(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """k 3 after k 5 draws nothing, and the results of k 5 stay."""
    assert run("eval", "organism", "--limit", 5, "--k", 5, "--json") == 0
    five = printed(capsys)
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("no weights are needed"))
    monkeypatch.setattr(models, "open_model", lambda *_: pytest.fail("no model is needed"))
    assert run("eval", "organism", "--limit", 5, "--k", 3, "--engine", "hf", "--json") == 0
    three = printed(capsys)
    assert (five["k"], three["k"]) == (5, 3)
    assert len(list(read_rows(only("samples.jsonl")))) == 25
    assert read_json(only("k5-first5/results.json")) == five
    assert read_json(only("k3-first5/results.json")) == three


def test_a_larger_k_draws_only_the_new_samples(run: Run) -> None:
    assert run("eval", "organism", *LIMIT) == 0
    before = list(read_rows(only("samples.jsonl")))
    assert run("eval", "organism", "--limit", 5, "--k", 7) == 0
    after = list(read_rows(only("samples.jsonl")))
    assert len(after) == 35
    assert [row for row in after if row in before] == before
    by_problem = [(row["problem_id"], row["index"]) for row in after]
    order = [problem.id for problem in problems.load("arithmetic", "test", 5)]
    assert by_problem == [(one, index) for one in order for index in range(7)]


def test_several_models_and_tasks_at_once(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(WEIGHTS, tmp_path / "copy")
    tasks = ("--tasks", "arithmetic,champ", "--max-tokens", 40, "--split", "validation")
    assert run("eval", "organism", "copy", *tasks, *LIMIT, "--json") == 0
    both = printed(capsys)["evaluations"]
    assert isinstance(both, list)
    found = [
        (row["checkpoint"], row["task"], row["problems"])
        for one in both
        if isinstance(one, dict) and isinstance(one["tasks"], list)
        for row in one["tasks"]
        if isinstance(row, dict)
    ]
    assert found == [
        ("organism", "arithmetic", 5),
        ("organism", "champ", 5),
        ("copy", "arithmetic", 5),
        ("copy", "champ", 5),
    ]
    manifest = read_json(Path("runs/models/copy/manifest.json"))
    assert (manifest["condition"], manifest["label"]) == ("copy", "copy")


def test_options_reach_the_samples(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ("--temperature", 0.5, "--max-tokens", 7, "--seed", 4, "--engine", "hf")
    assert run("eval", "organism", *LIMIT, *drawn, "--json") == 0
    settings = printed(capsys)["settings"]
    assert isinstance(settings, dict)
    assert {name: settings[name] for name in ("temperature", "max_tokens", "seed", "engine")} == {
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 4,
        "engine": "hf",
    }
    assert all(int(str(row["completion_tokens"])) <= 7 for row in read_rows(only("samples.jsonl")))


def test_a_suite_asks_in_its_style_and_no_suite_asks_the_bare_problem(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Samples of both lie apart, in folders of their own keys."""
    tiny_model(tmp_path / "qwen3")
    assert run("eval", "qwen3", "--limit", 2, "--k", 1, "--json") == 0
    settings = printed(capsys)["settings"]
    assert isinstance(settings, dict)
    assert {"style", "prompt", "thinking"}.isdisjoint(settings)
    described = read_json(Path("runs/models/qwen3/manifest.json"))["suite"]
    assert isinstance(described, dict)
    assert (described["prompts"], described["thinking"]) == ("plain", {"evaluation": None})
    suite = ("--set", "prompts=steps", "--set", "thinking.evaluation=false")
    assert run("eval", "qwen3", "--limit", 2, "--k", 1, *suite, "--json") == 0
    settings = printed(capsys)["settings"]
    assert isinstance(settings, dict)
    assert (settings["style"], settings["thinking"]) == ("steps", False)
    assert len(list(Path().rglob("samples.jsonl"))) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--tasks", "arithmetik"], ["'arithmetik'", "did you mean 'arithmetic'"]),
        (["--tasks", "aime24", "--split", "validation"], ["aime24", "no split", "test"]),
        (["--engine", "vlm"], ["'vlm'", "auto", "did you mean 'vllm'"]),
        (["--engine-option", "batch_rowz=3"], ["batch_rowz", "batch_rows"]),
        (["--engine-option", "batch_rows"], ["--engine-option", "key=value"]),
        (["--temperature", "-1"], ["--temperature -1"]),
        (["--max-tokens", "0"], ["--max-tokens 0"]),
        (["--max-tokens", "600"], ["600", "512", "lower max_tokens"]),
        (["--regrade"], ["organism", "holds no evaluation"]),
    ],
)
def test_mistakes_are_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run("eval", "organism", *LIMIT, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in named), error


def test_results_are_in_lm_evals_layout(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """lm-eval's own functions find and tabulate them; a second call adds no second pair."""
    from lm_eval.utils import (
        get_latest_filename,
        get_results_filenames,
        get_sample_results_filenames,
        make_table,
    )

    assert run("eval", "organism", *LIMIT, "--json") == 0
    ours = printed(capsys)
    folder = only("k3-first5")
    assert run("eval", "organism", *LIMIT) == 0
    names = [str(path) for path in folder.iterdir()]
    results = get_results_filenames(names)
    samples = get_sample_results_filenames(names)
    assert len(results) == len(samples) == 1
    table = read_json(Path(get_latest_filename(results)))
    metrics = ours["metrics"]
    assert isinstance(metrics, dict)
    scores = table["results"]
    assert isinstance(scores, dict) and isinstance(scores["arithmetic"], dict)
    for name in ("avg@3", "pass@3", "maj@3"):
        metric = metrics[name]
        assert isinstance(metric, dict)
        assert scores["arithmetic"][f"{name},all"] == metric["value"]
        assert scores["arithmetic"][f"{name}_stderr,all"] == metric["standard_error"]
    printed_table = make_table(table)
    assert "arithmetic" in printed_table and "avg@3" in printed_table
    rows = list(read_rows(Path(samples[0])))
    stored = list(read_rows(only("samples.jsonl")))
    texts = [row["text"] for row in stored]
    assert [text for row in rows for text in _list(row["filtered_resps"])] == texts
    assert [row["doc_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["resps"] == [row["filtered_resps"]] for row in rows)


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def test_regrading_shows_what_changed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One stored text is made right and one verdict is turned by hand: both are told."""
    assert run("eval", "organism", *LIMIT) == 0
    before = read_json(only("results.json"))
    capsys.readouterr()
    assert run("eval", "runs", "--regrade", "--json") == 0
    (same,) = _list(printed(capsys)["regraded"])
    assert isinstance(same, dict)
    assert (same["samples"], same["changes"]) == (15, [])
    assert read_json(only("results.json")) == before

    problem = problems.load("arithmetic", "test", 1)[0]
    rows = list(read_rows(only("samples.jsonl")))
    verdicts = {str(row["id"]): str(row["status"]) for row in read_rows(only("verdicts.jsonl"))}
    wrong = next(row for row in rows if verdicts[str(row["id"])] == "incorrect")
    answers = {one.id: one.answer for one in problems.load("arithmetic", "test", 5)}
    wrong["text"] = f"<answer>{answers[str(wrong['problem_id'])]}</answer>"
    write_rows(only("samples.jsonl"), rows)
    assert run("eval", "runs", "--regrade", "--json") == 0
    (changed,) = _list(printed(capsys)["regraded"])
    assert isinstance(changed, dict)
    assert changed["counts"] == {"incorrect to correct": 1}
    (change,) = _list(changed["changes"])
    assert isinstance(change, dict)
    assert (change["id"], change["gold"]) == (wrong["id"], answers[str(wrong["problem_id"])])
    assert changed["avg_after"] == pytest.approx(float(str(changed["avg_before"])) + 1 / 15)
    assert len(list(Path().rglob("results_*.json"))) == 2  # lm-eval's files of both scorings
    assert problem.id in answers


def test_regrading_refuses_samples_of_other_problems(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eval", "organism", *LIMIT) == 0
    path = only("results.json")
    write_json(path, {**read_json(path), "problems_sha256": "0" * 16})
    assert run("eval", "runs", "--regrade") == 2
    assert "not those that were sampled" in capsys.readouterr().err


GRADED: list[Row] = [
    {"id": "a", "gold": "1/2", "out": "so \\boxed{0.5}", "verdict": "correct"},
    {"id": "b", "gold": 7, "out": "so \\boxed{8}", "verdict": "incorrect"},
    {"id": "c", "gold": 7, "out": None, "verdict": "unparsable"},
    {"id": "d", "gold": 7, "out": "on and", "finish_reason": "length", "verdict": "truncated"},
    {"id": "e", "gold": "x^2+2x+1", "out": "\\boxed{(x+1)^2}", "verdict": "correct"},
    {
        "gold": 1.5,
        "out": [{"role": "user", "content": "?"}, {"content": "\\boxed{3/2}"}],
        "verdict": "correct",
    },
]


def test_any_jsonl_is_graded_row_by_row_in_order(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", GRADED)
    assert run("grade", "rows.jsonl", "--gold", "gold", "--response", "out", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["verdict"] for row in found] == [row["verdict"] for row in GRADED]
    assert [row["line"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row.get("id") for row in found] == ["a", "b", "c", "d", "e", None]
    assert found[4]["verifier"].startswith("math-verify/")
    assert run("grade", "rows.jsonl", "--gold", "gold", "--response", "out") == 0
    table = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert table == {
        "correct": "3",
        "incorrect": "1",
        "unparsable": "1",
        "truncated": "1",
        "rows": "6",
    }


def test_rows_may_come_from_standard_input(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b'{"g": "3", "r": "\\\\boxed{3}"}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    assert run("grade", "-", "--gold", "g", "--response", "r", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "correct"


@pytest.mark.parametrize(
    ("rows", "arguments", "named"),
    [
        ([], [], ["holds no row"]),
        ([{"gold": 1}], [], ["line 1", "'out'", "found: gold"]),
        ([{"gold": [1], "out": "x"}], [], ["line 1", "'gold' holds list"]),
        ([{"gold": "", "out": "\\boxed{1}"}], [], ["line 1", "empty"]),
        ([{"gold": 1, "out": "x"}], ["--timeout", "0"], ["--timeout 0"]),
    ],
)
def test_rows_that_cannot_be_graded_are_named(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    rows: list[Row],
    arguments: list[str],
    named: list[str],
) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    assert run("grade", "rows.jsonl", "--gold", "gold", "--response", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in named), error


def test_tasks_are_listed_with_source_licence_and_availability(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "tasks") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == problems.names()
    arithmetic = next(line for line in lines if line.startswith("arithmetic"))
    assert "1,024 test" in arithmetic and "offline" in arithmetic
    assert run("list", "tasks", "--json") == 0
    found = printed(capsys)["math500"]
    assert isinstance(found, dict)
    assert {"sizes", "source", "licence", "revision", "available"} <= set(found)


def test_a_run_is_analysed_with_the_critiques_that_lie_beside_its_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`sdbench bench --out` keeps them there, so none of them is paid for again."""
    chosen = SimpleNamespace(tested=(), selected="", last="", as_row=dict)
    stores: list[object] = []
    monkeypatch.setattr(eval_command, "evaluate_run", lambda *_: chosen)
    monkeypatch.setattr(eval_command, "analyse_run", lambda *told: stores.append(told[-1]))
    root = tmp_path / "out" / "tiny" / "critique" / "seed0"
    (tmp_path / "out" / "critiques").mkdir(parents=True)
    write_json(
        root / "manifest.json", {"suite": load_suite().model_dump(), "condition": "critique"}
    )
    (root / "checkpoints" / "000060").mkdir(parents=True)
    job = eval_command.prepare(str(root), eval_command.Choice())
    with Grader() as grader, Engines() as engines:
        job.run(grader, engines, ignore)
    assert stores == [tmp_path / "out" / "critiques"]
