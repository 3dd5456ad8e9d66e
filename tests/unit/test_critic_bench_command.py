"""`sdbench bench critics`, and that `sdbench bench SUITE` is still what it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model

from sdbench.config import project_folder
from sdbench.critic_bench import command, marked, run
from sdbench.engines import fake
from sdbench.engines.base import Request, Sampling
from sdbench.records import Attempt

Run = Callable[..., int]
SCRIPT = "<case>D</case><step_1>Something else.</step_1><answer>\\boxed{1337}</answer>"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Arithmetic with so few traces that a test is quick."""
    text = (project_folder("baselines") / "tiny.toml").read_text()
    path = tmp_path_factory.mktemp("suite") / "few.toml"
    path.write_text(text.replace("traces = 400", "traces = 24"))
    monkeypatch.setattr(marked, "SUITE", str(path))
    return 24


def test_the_oracle_finds_every_first_wrong_step(
    run: Run, capsys: pytest.CaptureFixture[str], few: int
) -> None:
    """It knows the truth, so it shows that truth and critiques are set against each other rightly."""
    assert run("bench", "critics", "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    folder = Path("runs") / "critic-bench" / "oracle-arithmetic"
    assert json.loads((folder / "results.json").read_text()) == result
    data, scores = result["data"], result["scores"]
    assert (data["name"], data["traces"], data["of"]) == ("arithmetic", few, few)
    assert data["erroneous"] and data["error_free"]
    for name in ("f1", "located", "near", "cleared", "exact", "detection_f1"):
        assert scores[name]["value"] == 1.0
    assert scores["unreadable"]["value"] == 0 and result["ledger"]["tokens"] == 0
    guess = result["controls"]["guesses evenly"]["exact"]["value"]
    assert 0 < guess < 0.5


def test_the_traces_are_always_the_same_and_hold_what_was_checked(few: int) -> None:
    """Where a step is wrong its number lies within the trace, and where one is missing just after it."""
    first, again = marked.load("arithmetic"), marked.load("arithmetic")
    assert marked.fingerprint(first) == marked.fingerprint(again)
    assert {trace.category for trace in first} <= {"4 steps needed", "5 steps needed"}
    for trace in first:
        right = trace.attempt.verdict.correct
        assert right or trace.first_wrong is not None
        assert trace.first_wrong is None or 1 <= trace.first_wrong <= trace.steps + 1


def test_a_second_call_asks_nothing_and_a_report_sets_results_side_by_side(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    from sdbench.critics import oracle

    asked: list[int] = []
    original = oracle.Oracle.critique

    def counted(self: oracle.Oracle, attempts: Sequence[Attempt]) -> object:
        asked.append(len(attempts))
        return original(self, attempts)

    monkeypatch.setattr(oracle.Oracle, "critique", counted)
    assert run("bench", "critics", "--limit", 10, "--out", "part") == 0
    assert run("bench", "critics") == 0
    assert run("bench", "critics", "--report", "report", "--beside", "part") == 0
    assert asked == [10, few]
    output = capsys.readouterr()
    assert "report: " in output.out and "oracle" in output.out
    said = Path("report", "report.md").read_text()
    assert f"all {few} traces" in said and f"10 of {few} traces" in said


def test_a_model_is_tested_through_any_engine(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It always says that step 1 is wrong, so it scores as the control of that name does."""
    folder = tiny_model(tmp_path_factory.mktemp("critic"), max_length=32768)
    prompts: list[str] = []
    original = fake.FakeEngine.stream

    def heard(self: fake.FakeEngine, requests: Sequence[Request], sampling: Sampling) -> object:
        prompts.extend(request.prompt for request in requests)
        return original(self, requests, sampling)

    monkeypatch.setattr(fake.FakeEngine, "stream", heard)
    options = [
        *("--critic-option", f"model={folder}", "--critic-option", "engine.name=fake"),
        *("--critic-option", f"engine.options.script={{'*' = ['{SCRIPT}']}}"),
        *("--critic-option", "max_tokens=512", "--critic-option", "retries=0"),
    ]
    call = ["bench", "critics", "--critic", "model", *options, "--data", "champ", "--limit", 8]
    assert run(*call, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["critic"]["label"] == folder.name
    assert len(prompts) == 8 and all("<step_1>" in prompt for prompt in prompts)
    control = result["controls"]["always says step 1"]
    for name in ("located", "near", "cleared", "exact", "detection_recall"):
        assert result["scores"][name] == control[name]
    assert result["scores"]["tokens"]["value"] > 0
    assert run(*call) == 0
    assert len(prompts) == 8, "a second call asks nothing"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--critic", "orakle"], ["'orakle'", "did you mean 'oracle'"]),
        (["--critic-option", "wit=3"], ["critic oracle", "'wit'"]),
        (["--critic-option", "wit"], ["--critic-option 'wit'", "key=value"]),
        (["--data", "chomp"], ["'chomp'", "arithmetic, champ"]),
        (["--data", "champ"], ["oracle critic cannot check task 'champ'", "arithmetic"]),
        (["--data", "champ", "--limit", "541"], ["--limit 541", "540"]),
        (["--limit", "0"], ["--limit 0", "from 1"]),
        (["--data", "champ,arithmetic", "--out", "here"], ["--out", "champ, arithmetic"]),
        (["--beside", "nowhere"], ["nowhere", "no results.json"]),
        (["--frobnicate"], ["--frobnicate"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run("bench", "critics", *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    for text in named:
        assert text in output.err
    assert not any(Path.cwd().rglob("*"))


def test_help_shows_both_benchmarks(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--help") == 0
    said = capsys.readouterr().out
    assert "bench SUITE [OPTIONS]" in said and "bench critics [OPTIONS]" in said
    assert "--conditions" in said and "first wrong step" in said
    assert run("bench", "critics", "--help") == 0
    said = capsys.readouterr().out
    assert "--critic-option" in said and "--conditions" not in said
    assert run("bench", "tiny", "--help") == 0
    assert "--conditions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["bench"], "suite"),
        (["bench", "tinny"], "did you mean 'tiny'"),
        (["bench", "--seeds", "0", "tiny"], "--seeds 0"),
        (["bench", "tiny", "--seeds=0"], "--seeds 0"),
        (["bench", "suite", "tiny", "--seeds", "0"], "--seeds 0"),
        (["bench", "tiny", "--limit", "3"], "--limit"),
    ],
)
def test_a_suite_needs_no_word_before_its_name(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run(*arguments) == 2
    assert named in capsys.readouterr().err


def test_results_go_where_the_help_says(few: int, tmp_path: Path) -> None:
    choice = command.Choice("oracle", out=tmp_path / "here")
    command.measure(choice, "sdbench bench critics")
    assert (tmp_path / "here" / "critiques.jsonl").is_file()
    assert run.folder_for("oracle", "champ") == Path("runs/critic-bench/oracle-champ")
