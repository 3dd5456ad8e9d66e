"""`sdbench data filter`: who is kept and why, by hand; and that nothing is sampled twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model

from sdbench import models, problems, traces
from sdbench.curate import filter as filtering
from sdbench.curate import kept
from sdbench.engines.base import Request, Sampling
from sdbench.engines.fake import FakeEngine
from sdbench.errors import ConfigError, DataError
from sdbench.eval_command import Choice
from sdbench.grading import Answer, Grader
from sdbench.records import Completion, FinishReason, Problem, Sample
from sdbench.rundir import Row, read_json, read_rows, write_rows

Run = Callable[..., int]
FAKE = ("--engine", "fake", "--engine-option")
FOUR = ("--limit", 4, "--k", 4, "--below", "1/2")


def answered(answer: str) -> str:
    return traces.join(["1+1=2"], answer)


def other(problem: Problem) -> str:
    """A wrong answer."""
    return str((int(problem.answer) + 1) % 10)


def script(texts: dict[str, list[str]]) -> str:
    inner = ", ".join(f"{json.dumps(id)} = {json.dumps(listed)}" for id, listed in texts.items())
    return f"script={{{inner}}}"


@pytest.fixture
def four() -> list[Problem]:
    return problems.load("arithmetic", "train", 4)


@pytest.fixture
def by_solver(four: list[Problem]) -> str:
    """Right and well-formed of four: 2 and 4; 1 and 2; 1 and 3; 0 and 3.

    Not well-formed: an answer without steps, steps without an answer, an empty answer, words after
    the answer.
    """
    right, wrong = [answered(p.answer) for p in four], [answered(other(p)) for p in four]
    bare = [f"<answer>{other(p)}</answer>" for p in four]
    texts = [
        [right[0], right[0], wrong[0], wrong[0]],
        [right[1], wrong[1], bare[1], "<step_1>1+1=2</step_1>"],
        [right[2], wrong[2], wrong[2], answered("")],
        [wrong[3], wrong[3], wrong[3], wrong[3] + "1"],
    ]
    return script({problem.id: listed for problem, listed in zip(four, texts, strict=True)})


@pytest.fixture
def by_critic(four: list[Problem]) -> str:
    """Solves all but the last."""
    texts = {problem.id: [answered(problem.answer)] for problem in four}
    return script({**texts, four[3].id: [answered(other(four[3]))]})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[tuple[str, int, float]]]:
    """Counts what the fake engine draws: by problem, index and temperature."""
    counts: Counter[tuple[str, int, float]] = Counter()
    stream = FakeEngine.stream

    def counted(
        engine: FakeEngine, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[Completion]:
        for one in stream(engine, requests, sampling):
            counts[one.request_id, one.index, sampling.temperature] += 1
            yield one

    monkeypatch.setattr(FakeEngine, "stream", counted)
    yield counts


def printed(capsys: pytest.CaptureFixture[str]) -> Row:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_each_problem_is_dropped_for_the_first_reason_that_holds(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    drawn: Counter[tuple[str, int, float]],
    four: list[Problem],
    by_solver: str,
    by_critic: str,
) -> None:
    """2 of 4 is not below 1/2; 2 of 4 is under 3/4, 3 of 4 is not; the critic is asked of two."""
    solver = ("--solver", "organism", *FAKE, by_solver)
    critic = ("--critic", "organism", "--critic-engine-option", by_critic)
    assert run("data", "filter", "arithmetic", *solver, *critic, *FOUR, "--json") == 0
    found = printed(capsys)
    assert (found["problems"], found["kept"]) == (4, 1)
    assert found["dropped"] == {"too easy": 1, "malformed": 1, "unsolved": 1}
    folder = Path(str(found["folder"]))
    rows = list(read_rows(folder / "problems.jsonl"))
    assert [row["id"] for row in rows] == [problem.id for problem in four]
    assert [row["reason"] for row in rows] == ["too easy", "malformed", None, "unsolved"]
    assert [row["kept"] for row in rows] == [False, False, True, False]
    assert [row["avg@4"] for row in rows] == [
        {"n": 4, "c": c, "value": c / 4} for c in (2, 1, 1, 0)
    ]
    assert [row["format"] for row in rows] == [
        {"n": 4, "c": c, "value": c / 4} for c in (4, 2, 3, 3)
    ]
    right, wrong = ({"n": 1, "c": c, "value": float(c)} for c in (1, 0))
    assert [row["critic"] for row in rows] == [None, None, right, wrong]
    greedy = {(id, index) for id, index, temperature in drawn if temperature == 0}
    assert greedy == {(four[2].id, 0), (four[3].id, 0)}
    described = read_json(folder / "filter.json")
    assert described["criteria"] == {
        "avg@4 below": "1/2",
        "format at least": "3/4",
        "critic right": "at least once in 1",
    }
    assert str(described["command"]).startswith("sdbench data filter arithmetic")
    assert [problem.id for problem in kept.read(folder).problems] == [four[2].id]


def test_without_a_critic_that_criterion_is_not_applied_and_said_so(
    run: Run, capsys: pytest.CaptureFixture[str], by_solver: str
) -> None:
    solver = ("--solver", "organism", *FAKE, by_solver, "--out", "here")
    assert run("data", "filter", "arithmetic", *solver, *FOUR) == 0
    assert "unsolved    not applied: no --critic" in capsys.readouterr().out
    found = read_json(Path("here/filter.json"))
    assert (found["kept"], found["critic"]) == (2, None)
    assert found["dropped"] == {"too easy": 1, "malformed": 1, "unsolved": None}


def test_one_right_attempt_of_the_critic_is_enough(
    run: Run, capsys: pytest.CaptureFixture[str], four: list[Problem], by_solver: str
) -> None:
    """Of three attempts at the third problem the last is right, at the fourth none is."""
    right, wrong = answered(four[2].answer), answered(other(four[2]))
    attempts = script({four[2].id: [wrong, wrong, right], "*": ["<answer></answer>"]})
    solver = ("--solver", "organism", *FAKE, by_solver, "--out", "here")
    critic = ("--critic", "organism", "--critic-engine-option", attempts)
    often = ("--critic-k", 3, "--critic-temperature", 0.7)
    assert run("data", "filter", "arithmetic", *solver, *critic, *often, *FOUR, "--json") == 0
    assert printed(capsys)["dropped"] == {"too easy": 1, "malformed": 1, "unsolved": 1}
    shares = [row["critic"] for row in read_rows(Path("here/problems.jsonl"))]
    assert shares == [None, None, {"n": 3, "c": 1, "value": 1 / 3}, {"n": 3, "c": 0, "value": 0.0}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<step_1>a</step_1><answer>1</answer>", True),
        ("<think>a, so 1</think>\n<step_1>a</step_1>\n<answer>1</answer>\n", True),
        ("<step_1>a</step_1><step_2>b</step_2><answer>\\boxed{1}</answer>", True),
        ("<answer>1</answer>", False),
        ("<step_1>a</step_1> The answer is 1.", False),
        ("<step_1>a<answer>1</answer>", False),
        ("<step_2>a</step_2><answer>1</answer>", False),
        ("<step_1>a</step_1><answer>1</answer> as I said", False),
        ("Sure! <step_1>a</step_1><answer>1</answer>", False),
        ("<step_1>a</step_1><answer> </answer>", False),
        ("<think><step_1>a</step_1><answer>1</answer>", False),
    ],
)
def test_what_is_well_formed(text: str, expected: bool) -> None:
    drawn = Sample("p#0", "p", 0, text, 9, FinishReason.STOP)
    with Grader() as grader:
        (verdict,) = grader.grade([Answer("p#0", text, "1", FinishReason.STOP)])
    tally = filtering._tally([(drawn, verdict)])
    assert (tally.n, tally.well_formed) == (1, int(expected))


def test_a_killed_filter_continues_and_draws_nothing_twice(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    drawn: Counter[tuple[str, int, float]],
    by_solver: str,
    by_critic: str,
) -> None:
    """Killed after 7 of 16 samples by the solver and again before the second of the critic's two."""
    solver = ("--solver", "organism", *FAKE, by_solver, "--out", "here")
    critic = ("--critic", "organism", "--critic-engine-option", by_critic)
    command = ("data", "filter", "arithmetic", *solver, *critic, *FOUR)
    stream = FakeEngine.stream
    for total in (7, 17):

        def killed(
            engine: FakeEngine,
            requests: Sequence[Request],
            sampling: Sampling,
            total: int = total,
        ) -> Iterator[Completion]:
            for one in stream(engine, requests, sampling):
                yield one
                if drawn.total() == total:
                    raise KeyboardInterrupt

        monkeypatch.setattr(FakeEngine, "stream", killed)
        assert run(*command) == 130
        assert drawn.total() == total
        assert not Path("here/filter.json").exists()
    monkeypatch.setattr(FakeEngine, "stream", stream)
    assert run(*command) == 0
    assert drawn.total() == 18
    assert set(drawn.values()) == {1}
    assert read_json(Path("here/filter.json"))["kept"] == 1


def test_other_thresholds_draw_nothing_and_more_samples_only_the_new_ones(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    drawn: Counter[tuple[str, int, float]],
    by_solver: str,
) -> None:
    command = ("data", "filter", "arithmetic", "--solver", "organism", *FAKE, by_solver)
    assert run(*command, *FOUR) == 0
    assert run(*command, "--limit", 4, "--k", 5, "--format", "0") == 0
    assert drawn.total() == 20
    assert set(drawn.values()) == {1}
    monkeypatch.setattr(models, "open_model", lambda *_: pytest.fail("no model is needed"))
    assert run(*command, "--limit", 4, "--k", 4, "--below", "1", "--format", "1/4") == 0
    (folder,) = Path("runs/filters").glob("*/*")
    assert read_json(folder / "filter.json")["kept"] == 4


def test_the_tiny_solver_is_filtered_and_what_is_kept_can_be_split(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With itself for a critic, what it cannot solve greedily is dropped; without one it stays."""
    command = ("data", "filter", "arithmetic", "--solver", "organism", "--limit", 12, "--k", 4)
    assert run(*command, "--critic", "organism", "--json") == 0
    found = printed(capsys)
    dropped = found["dropped"]
    assert isinstance(dropped, dict)
    numbers = [int(str(count)) for count in dropped.values()]
    assert int(str(found["kept"])) + sum(numbers) == 12
    folder = Path(str(found["folder"]))
    for row in read_rows(folder / "problems.jsonl"):
        share = row["avg@4"]
        assert isinstance(share, dict)
        assert (Fraction(int(str(share["c"])), 4) >= Fraction(5, 16)) == (
            row["reason"] == "too easy"
        )
    assert run(*command, "--below", 1) == 0
    capsys.readouterr()
    sizes = ("--train", 2, "--validation", 1, "--test", 1)
    assert run("data", "split", folder, *sizes, "--json") == 0
    source = printed(capsys)["source"]
    assert isinstance(source, dict)
    assert (source["filter"], source["task"]) == (str(folder), "arithmetic")
    assert "data filter" in str(source["command"])
    assert run("data", "split", folder, *sizes, "--from", "train") == 2
    assert "was filtered from train" in capsys.readouterr().err


def test_a_language_model_is_asked_for_steps_and_each_role_thinks_as_the_suite_says(
    tmp_path: Path,
) -> None:
    """In the suite `paper` the student does not think and the critic does; it names 60 problems."""
    model = str(tiny_model(tmp_path / "qwen3"))
    bare = Choice(tasks=("gsm_symbolic",), split="train", k=16, engine="hf", out=tmp_path)
    plan = filtering.plan_of_solver(model, bare)
    assert (plan.style, plan.thinking, plan.temperature, plan.max_tokens) == ("steps", None, 1, 512)
    assert filtering.plan_of_solver("organism", bare).style == "organism"
    paper = replace(bare, suite="paper", tasks=("openmathreasoning",))
    student = filtering.plan_of_solver(model, paper)
    critic = filtering.plan_of_critic(model, paper)
    assert (student.style, student.thinking, critic.thinking) == ("steps", False, True)
    assert (student.source.dtype, student.problems, student.trial) == ("bfloat16", None, False)
    assert filtering.plan_of_critic(model, replace(paper, limit=5)).problems == 5


def test_the_suites_own_critic_has_its_engine_and_another_none_of_the_solvers_options(
    tmp_path: Path,
) -> None:
    """In the suite `paper` solver and critic have vLLM, with 0.2 and 0.45 of the memory."""
    model = str(tiny_model(tmp_path / "qwen3"))
    suite = Choice(
        suite="paper",
        overrides=(f'critic.options.model="{model}"',),
        tasks=("openmathreasoning",),
        split="train",
        k=1,
        engine_options=("tensor_parallel_size=2",),
        out=tmp_path,
    )
    own = filtering.plan_of_critic(model, suite)
    assert (own.source.engine.name, own.max_tokens) == ("vllm", 16384)
    assert own.source.engine.options == {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.45,
        "max_model_len": 24576,
    }
    other = filtering.plan_of_critic(model, replace(suite, overrides=(), engine="vllm"))
    assert other.source.engine.options == {"tensor_parallel_size": 2}
    assert other.max_tokens == 2048
    with pytest.raises(ConfigError, match="batch_rowz"):
        filtering.plan_of_critic(model, replace(suite, engine_options=("batch_rowz=1",)))


def test_a_folder_that_was_changed_is_refused(run: Run, by_solver: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    solver = ("--solver", "organism", *FAKE, by_solver, "--out", folder)
    assert run("data", "filter", "arithmetic", *solver, *FOUR) == 0
    rows = list(read_rows(folder / "problems.jsonl"))
    about = read_json(folder / "filter.json")
    write_rows(folder / "problems.jsonl", [{**row, "kept": True} for row in rows])
    with pytest.raises(DataError, match=r"problems.jsonl is not what filter.json speaks of"):
        kept.read(folder)
    kept.write(folder, [{**row, "fingerprint": "0"} for row in rows], about)
    with pytest.raises(DataError, match="2 of 2 problems of task arithmetic"):
        kept.read(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5/16", Fraction(5, 16)), ("0.75", Fraction(3, 4)), ("0", Fraction(0)), ("1", Fraction(1))],
)
def test_a_share_is_read_exactly(text: str, expected: Fraction) -> None:
    assert filtering.share("--below", text) == expected


@pytest.mark.parametrize("text", ["5/0", "17/16", "-0.1", "half", "nan", "inf", ""])
def test_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--below .*: allowed are 0 to 1"):
        filtering.share("--below", text)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["arithmetik"], ["'arithmetik'", "did you mean 'arithmetic'"]),
        (["arithmetic", "--split", "dev"], ["'dev'", "train"]),
        (["arithmetic", "--limit", "5000"], ["4096", "5000"]),
        (["arithmetic", "--k", "0"], ["--k 0"]),
        (["arithmetic", "--below", "5/0"], ["--below 5/0"]),
        (["arithmetic", "--format", "2"], ["--format 2"]),
        (["arithmetic", "--critic-k", "3"], ["--critic-k 3", "--critic-temperature"]),
        (["arithmetic", "--temperature", "11"], ["--temperature 11", "0 to 10"]),
        (["arithmetic", "--engine", "vlm"], ["'vlm'", "did you mean 'vllm'"]),
        (["arithmetic", "--critic", "nowhere/at/all"], ["nowhere/at/all"]),
        (["arithmetic", "--suite", "tinny"], ["'tinny'", "tiny"]),
    ],
)
def test_mistakes_are_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run("data", "filter", "--solver", "organism", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in named), error
    assert not any(Path.cwd().rglob("*"))
