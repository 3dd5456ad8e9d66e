"""`sdbench critique`: runs and files in, audits out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model
from training_fixture import SEED, ignore, short

from sdbench import traces
from sdbench.critique_command import audit_run
from sdbench.grading import Grader
from sdbench.report import compare
from sdbench.rundir import Row, RunDir, read_json, read_rows, write_rows
from sdbench.suite import Advance, cells, run_cell
from sdbench.train.loop import train

RunCommand = Callable[..., int]

PROMPT = "There are 15 girls and 4 times as many boys. How many kids are there?"
FIRST, WRONG, RIGHT = "There are 15 x 4 = 60 boys.", "In all 15 + 60 = 65.", "In all 15 + 60 = 75."
REWORDED = "We have 15 x 4 = 60 boys."
SOLUTION = "There are 15*4 = 60 boys.\nThere are 60+15 = 75 kids."


def row(name: str, critique: object = None, **more: object) -> dict[str, object]:
    """A row whose second step is wrong."""
    made: dict[str, object] = {
        "id": name,
        "problem_id": f"p {name}",
        "prompt": PROMPT,
        "answer": "75",
        "response": traces.join([FIRST, WRONG], "65"),
        "first_wrong_step": 2,
    }
    return {**made, **({"critique": critique} if critique is not None else {}), **more}


def written(*steps: str, answer: str = "75") -> str:
    return traces.join(steps, answer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """Three updates of 4 problems each, by the exact critic, and without one."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        arm: train(short(), arm, SEED, folder / arm, ignore)
        for arm in ("critique", "grpo_matched_rollouts")
    }


def written_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    write_rows(path, rows)
    return path


def share(audit: Mapping[str, object], name: str) -> object:
    """A share, and over how many critiques it is."""
    shares = audit["shares"]
    assert isinstance(shares, dict)
    found = shares[name]
    return None if found is None else (found["value"], found["critiques"])


def test_critiques_of_a_file_are_audited(
    run: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four critiques: faithful, in other words (7 of 9 tokens), copying the error, unreadable.

    Verbatim is 1, 7/9 and 1; the mean over problems 25/27. The third takes step 2 for right: A.
    """
    rows = [
        row("a", written(FIRST, RIGHT), case="D"),
        row("b", f"<think>Hm.</think><case>D</case>\n{written(REWORDED, RIGHT)}"),
        row("c", written(FIRST, WRONG, answer="65")),
        row("d", "I agree."),
        row("e"),
    ]
    file = written_rows(tmp_path / "attempts.jsonl", rows)
    assert run("critique", file, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    out = tmp_path / "attempts-critiques"
    assert printed == {"out": str(out), **read_json(out / "audit.json")}
    assert (printed["critic"], printed["truth"]) == ("file", "given")
    assert (printed["attempts"], printed["critiques"], printed["problems"]) == (5, 4, 4)
    assert share(printed, "parsed") == (0.75, 4)
    assert share(printed, "verbatim") == (pytest.approx(25 / 27), 3)
    assert share(printed, "quoted") == (pytest.approx(1 / 3), 3)
    assert share(printed, "answer_right") == (pytest.approx(2 / 3), 3)
    assert share(printed, "first_error_right") == (pytest.approx(2 / 3), 3)
    assert share(printed, "agrees_on_first_error") is None
    assert printed["cases"] == {"A": 1, "D": 2, "none": 1}
    assert printed["confusion"] == {"D": {"A": 1, "D": 2, "none": 1}}
    assert printed["faults"] == {"unparsable": 1}
    stored = list(read_rows(out / "critiques.jsonl"))
    assert [one["rollout_id"] for one in stored] == ["a", "b", "c", "d"]
    assert isinstance(stored[0]["critique"], dict)
    assert stored[0]["critique"]["first_wrong_step"] == 2


def test_agreement_with_aligned_is_reported_where_it_can_judge(
    run: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the worked solution it finds the second step wrong, too; nothing is known for sure."""
    rows = [row("a", written(FIRST, RIGHT), solution=SOLUTION), row("b", written(RIGHT))]
    for one in rows:
        del one["first_wrong_step"]
    file = written_rows(tmp_path / "attempts.jsonl", rows)
    assert run("critique", file, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["truth"] is None
    assert share(printed, "first_error_right") is None
    assert share(printed, "agrees_on_first_error") == (1.0, 1)
    assert run("critique", file) == 0
    text = capsys.readouterr().out
    assert "agreement with aligned: first wrong step" in text
    assert "first wrong step found" not in text


def test_a_critic_writes_critiques_of_a_file_and_is_paid_once(
    run: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its options are given as the suite's are; the second time the store has them all."""
    model = tiny_model(tmp_path / "model", max_length=4096)
    script = f"<case>D</case>{written(FIRST, RIGHT)}"
    options = [f"model={model}", "max_tokens=512"]
    options.append('engine={name="fake", options={script={"*"=["' + script + '"]}}}')
    file = written_rows(tmp_path / "attempts.jsonl", [row("a"), row("b", response="65"), row("c")])
    command = ["critique", file, "--critic", "model", "--out", tmp_path / "out", "--json"]
    for option in options:
        command += ["--critic-option", option]
    printed = []
    for _ in range(2):
        assert run(*command) == 0
        printed.append(json.loads(capsys.readouterr().out))
    first, second = printed
    assert (first["critic"], first["critiques"]) == ("model", 3)
    assert 0 < first["critic_tokens_stored"] < first["critic_tokens"]  # a and c say the same
    assert second["critic_tokens_stored"] == second["critic_tokens"] == first["critic_tokens"]
    assert second["shares"] == first["shares"]
    assert share(first, "first_error_right") == (pytest.approx(2 / 3), 3)
    (kept,) = (tmp_path / "runs" / "critiques").iterdir()
    assert len(kept.read_bytes().splitlines()) == 2


def test_rollouts_are_of_a_tasks_problems(
    run: RunCommand,
    tmp_path: Path,
    trained: dict[str, RunDir],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Arithmetic is checked exactly; the exact critic makes no mistake."""
    file = trained["grpo_matched_rollouts"].rollouts
    command = ["critique", file, "--critic", "oracle", "--out", tmp_path / "out", "--json"]
    assert run(*command, "--task", "arithmetic", "--limit", 5) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["task"], printed["truth"], printed["critiques"]) == ("arithmetic", "oracle", 5)
    assert share(printed, "case_right") == (1.0, 5)
    assert run(*command) == 2
    assert "name the task of its problems with --task" in capsys.readouterr().err


def test_a_run_is_audited_on_what_it_was_trained_on(
    run: RunCommand, trained: dict[str, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained["critique"]
    assert run("critique", folder.root, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["critic"], printed["attempts"], printed["critiques"]) == ("oracle", 12, 12)
    assert share(printed, "first_error_right") == (1.0, 12)
    assert read_json(folder.audit)["shares"] == printed["shares"]
    found = {one["rollout_id"]: one["critique"] for one in read_rows(folder.critiques)}
    assert found == {one["rollout_id"]: one["critique"] for one in read_rows(folder.feedback)}


def test_another_critics_audit_does_not_take_the_runs_own_place(
    run: RunCommand, trained: dict[str, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that had no critic has none still; its rollouts can be given to one."""
    folder = trained["grpo_matched_rollouts"]
    assert run("critique", folder.root) == 2
    assert "holds no critique to audit (hint: add --critic" in capsys.readouterr().err
    assert run("critique", folder.root, "--critic", "oracle", "--limit", 3) == 0
    assert "oracle: 3 critiques of 3 attempts" in capsys.readouterr().out
    assert not folder.audit.exists()
    assert (folder.root / "critics" / "oracle" / "audit.json").is_file()


def by_model(model: Path, *more: str) -> list[str]:
    """The options that name a scripted model critic."""
    script = f"<case>D</case>{written(FIRST, RIGHT)}"
    engine = 'engine={name="fake", options={script={"*"=["' + script + '"]}}}'
    options = (f"model={model}", "max_tokens=512", engine, *more)
    return ["--critic", "model", *(part for one in options for part in ("--critic-option", one))]


def test_critics_with_other_options_keep_their_audits_apart(
    run: RunCommand, tmp_path: Path
) -> None:
    """And from the file's own; each folder is called as the critic's file in the store is."""
    model = tiny_model(tmp_path / "model", max_length=4096)
    rows = [row("a", written(FIRST, RIGHT), case="D", solution=SOLUTION)]
    file = written_rows(tmp_path / "attempts.jsonl", rows)
    assert run("critique", file) == 0
    out = tmp_path / "attempts-critiques"
    own = (out / "audit.json").read_bytes()
    assert run("critique", file, *by_model(model)) == 0
    assert run("critique", file, *by_model(model, "retries=0")) == 0
    assert run("critique", file, "--critic", "aligned") == 0
    assert (out / "audit.json").read_bytes() == own
    found = {path.parent.name for path in (out / "critics").glob("*/audit.json")}
    stored = {path.stem for path in (tmp_path / "runs" / "critiques").iterdir()}
    assert len(stored) == 2 and found == {"aligned", *stored}


def test_critiques_of_a_run_are_kept_where_the_matrix_keeps_them(
    run: RunCommand, tmp_path: Path, trained: dict[str, RunDir]
) -> None:
    """In OUT/critiques if that is there; a run that lies elsewhere goes by runs/critiques."""
    model = tiny_model(tmp_path / "model", max_length=4096)
    command = (*by_model(model), "--limit", 2)
    folder = tmp_path / "out" / "tiny" / "critique" / "seed0"
    shutil.copytree(trained["critique"].root, folder)
    assert run("critique", folder, *command) == 0
    (elsewhere,) = (tmp_path / "runs" / "critiques").iterdir()
    kept = tmp_path / "out" / "critiques"
    kept.mkdir()
    elsewhere.rename(kept / elsewhere.name)
    rows = (kept / elsewhere.name).read_bytes()
    assert run("critique", folder.relative_to(tmp_path), *command) == 0
    assert (kept / elsewhere.name).read_bytes() == rows, "nothing is bought anew"
    assert not list((tmp_path / "runs" / "critiques").iterdir())


def test_the_audit_of_a_run_is_written_once_and_only_of_critiques(
    trained: dict[str, RunDir], tmp_path: Path
) -> None:
    with Grader() as grader:
        audit_run(trained["grpo_matched_rollouts"], grader)
        assert not trained["grpo_matched_rollouts"].audit.exists()
        trained["critique"].audit.unlink(missing_ok=True)
        audit_run(trained["critique"], grader)
        written_at = trained["critique"].audit.stat().st_mtime_ns
        audit_run(trained["critique"], grader)
    assert trained["critique"].audit.stat().st_mtime_ns == written_at


class Nobody:
    """A queue that nobody reads."""

    def put(self, news: Advance) -> None: ...


def test_a_cell_of_a_matrix_has_its_audit_and_its_store(tmp_path: Path) -> None:
    """All cells keep their critiques beside the suite's folder; the report shows the audit."""
    suite = short("train.updates=2", "analysis.traces=3", "analysis.examples=1")
    base, cell = cells(suite, ["critique"], [0], tmp_path)
    assert (base.store, cell.store) == (None, tmp_path / "critiques")
    for one in (base, cell):
        run_cell(suite, one, Nobody())  # type: ignore[arg-type]
    audit = read_json(RunDir(cell.folder).audit)
    assert audit["critiques"] == 8
    comparison = compare.build([base.folder, cell.folder], "A title", "a command")
    assert [(one["condition"], one["critiques"]) for one in comparison["critics"]] == [
        ("critique", 8)
    ]
    assert not (tmp_path / "critiques").exists(), "the exact critic costs nothing"


def without(name: str) -> Row:
    return {key: value for key, value in row("a").items() if key != name}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], [], "holds no row"),
        ([without("answer")], [], r"line 1: no field 'answer'; found: id, problem_id, prompt"),
        ([without("response")], [], "line 1: no field 'response'"),
        ([row("a", answer=True)], [], "line 1: 'answer' holds bool; allowed: text or a number"),
        ([row("a"), row("a")], [], "two rows share an id"),
        ([row("a", first_wrong_step=0)], [], "'first_wrong_step' is 0; allowed: a number from 1"),
        ([row("a", written(RIGHT), case="E")], [], "'case' is 'E'; allowed: A, B, C, D"),
        ([row("a", critique={"text": "x"})], [], "row a: 'critique' is no text, and no record"),
        ([row("a")], [], "holds no critique to audit"),
        ([row("a")], ["--critic", "orcle"], "unknown critic 'orcle'"),
        ([row("a")], ["--critic", "oracle"], "cannot check task ''; allowed: arithmetic"),
        ([row("a")], ["--critic", "oracle", "--critic-option", "x=1"], "unknown key"),
        ([row("a")], ["--critic", "aligned"], "needs a worked solution"),
        ([row("a")], ["--suite", "tinny"], "unknown suite 'tinny'"),
        ([row("a")], ["--limit", "0"], "--limit 0: allowed are whole numbers from 1"),
        ([{"problem_id": "x", "text": ""}], ["--task", "arith"], "unknown task 'arith'"),
    ],
)
def test_a_mistake_is_one_line(
    run: RunCommand,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[Row],
    options: list[str],
    message: str,
) -> None:
    file = written_rows(tmp_path / "attempts.jsonl", rows)
    assert run("critique", file, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_path_that_is_none_is_one_line(
    run: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("critique", tmp_path / "absent") == 2
    assert "no such file or run folder" in capsys.readouterr().err
    assert run("critique", tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err
    (tmp_path / "broken.jsonl").write_text("{}\nnot json\n")
    assert run("critique", tmp_path / "broken.jsonl") == 2
    assert "line 2: not valid JSON" in capsys.readouterr().err


def test_a_run_goes_by_its_own_suite(
    run: RunCommand, trained: dict[str, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("critique", trained["critique"].root, "--task", "arithmetic") == 2
    assert "found --task; allowed with it: --critic" in capsys.readouterr().err
