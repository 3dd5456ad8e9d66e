"""The command line: mistakes give one line and exit code 2, and the whole way works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdbench.rundir import RunDir, read_rows

Run = Callable[..., int]

SHRUNK = [
    *("--set", "train.updates=2", "--set", "train.save_every=1"),
    *("--set", "train.problems_per_update=4", "--set", "data.validation_problems=6"),
    *("--set", "data.test_problems=8", "--set", "analysis.traces=10"),
    *("--set", "evaluation.k=3", "--set", "evaluation.validation_k=2"),
]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--condition", "critic"], ["'critic'", "did you mean 'critique'"]),
        (["train"], ["condition"]),
        (["train", "--condition", "grpo", "--set", "train.updats=3"], ["'train.updates'"]),
        (["train", "--condition", "grpo", "--set", "train.updates=0"], ["train.updates = 0"]),
        (["train", "--condition", "grpo", "--set", "train.updates"], ["key=value"]),
        (
            ["train", "--condition", "grpo", "--correct-only", "--incorrect-only"],
            ["--correct-only and --incorrect-only", "one of them"],
        ),
        (["train", "--condition", "grpo", "--suite", "tinny"], ["'tinny'", "tiny"]),
        (["train", "--condition", "grpo", "--suite", "no.toml"], ["no.toml"]),
        (["train", "--condition", "grpo", "--set", "data.train_problems=5000"], ["4096", "5000"]),
        (["eval", "nowhere/at/all"], ["nowhere/at/all", "allowed"]),
        (["eval", "nowhere/at/all", "--k", "0"], ["--k 0", "from 1"]),
        (["eval", "organism", "--limit", "-1"], ["--limit -1"]),
        (["eval", "organism", "--split", "tests"], ["'tests'", "validation"]),
        (["report", "nowhere"], ["nowhere", "run folders"]),
        (["report", "."], ["no manifest.json"]),
        (["bench", "tiny", "--seeds", "0"], ["--seeds 0"]),
        (["bench", "tiny", "--against", "critic"], ["--against", "did you mean 'critique'"]),
        (["bench", "tiny", "--conditions", "critique,grop"], ["'grop'", "grpo"]),
        (["bench", "tiny", "--conditions", "critique, grop"], ["'grop'", "grpo"]),
        (["bench", "critics", "--data", "arithmetic, chmp"], ["'chmp'", "champ"]),
        (["eval", "organism", "--tasks", "arithmetic, chmp"], ["'chmp'", "champ"]),
        (["data", "duplicates", "arithmetic, chmp"], ["'chmp'", "champ"]),
        (["data", "duplicates", "arithmetic", "--against", "champ , chmp"], ["'chmp'", "champ"]),
        (["list", "models"], ["models", "conditions"]),
        (["organism", "pretrain", "--out", "here", "--updates", "0"], ["--updates 0"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    for text in named:
        assert text in output.err
    assert not any(Path.cwd().rglob("*"))


def test_broken_toml_is_named_with_its_place(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("title = 'a'\n[train\n")
    assert run("train", "--condition", "grpo", "--suite", "mine.toml") == 2
    assert "mine.toml is not valid TOML" in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    assert run("train", "--condition", "grpo", "--out", "thesis") == 2
    assert "thesis is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_lists_name_what_there_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "conditions", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"grpo", "reference", "critique"}
    assert run("list", "tasks") == 0
    assert "arithmetic" in capsys.readouterr().out


def test_wrong_rollouts_alone_are_a_run_of_their_own(run: Run, tmp_path: Path) -> None:
    """Every wrong rollout is trained on and no right one; the condition's own folder stays free."""
    suite = tmp_path / "runs" / "tiny"
    assert run("train", "--condition", "critique", "--incorrect-only", *SHRUNK) == 0
    assert [path.name for path in suite.iterdir()] == ["critique_incorrect_only"]
    found = RunDir(suite / "critique_incorrect_only" / "seed0")
    status = {row["id"]: row["status"] for row in read_rows(found.rollouts)}
    wrong = {id for id, one in status.items() if one != "correct"}
    assert 0 < len(wrong) < len(status)
    assert {row["rollout_id"] for row in read_rows(found.feedback)} == wrong


def test_the_whole_way(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Train, evaluate, report by hand; then the matrix, which skips what is done."""
    folder = tmp_path / "runs" / "tiny" / "critique" / "seed0"
    assert run("train", "--condition", "critique", *SHRUNK) == 0
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.is_dir()]
    assert run("eval", folder, "--k", 3, "--json") == 0
    capsys.readouterr()
    weights = (folder / "checkpoints" / "000002" / "model.safetensors").stat().st_mtime_ns
    matrix = ["--conditions", "critique,grpo", "--seeds", 1, "--jobs", 1]
    assert run("bench", "tiny", *matrix, *SHRUNK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "tiny"
    assert (folder / "checkpoints" / "000002" / "model.safetensors").stat().st_mtime_ns == weights
    report = tmp_path / "runs" / "tiny" / "report"
    assert {path.name for path in report.iterdir()} == {
        *("index.html", "report.md", "comparison.json", "leaderboard.csv"),
    }
    runs = json.loads((report / "comparison.json").read_text())["runs"]
    named = {(entry["condition"], entry["seed"]) for entry in runs}
    assert named == {("critique", 0), ("grpo", 0), ("base", 0)}
    assert all(0 <= entry["metrics"]["test"]["avg@3"]["value"] <= 1 for entry in runs)
