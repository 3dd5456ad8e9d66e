"""The grader as a whole: the golden cases, statuses, the exact path, and the fault boundary."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench.errors import DataError, GradingError
from sdbench.grading import Answer, Grader, exact, pool, worker
from sdbench.grading.worker import Finding
from sdbench.records import FinishReason, Verdict, VerdictStatus

GOLDEN = Path(__file__).parents[1] / "golden" / "grading_cases.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
# Short for the hostile, ample for the rest: those below take milliseconds.
DEADLINE = 2.0
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_seconds=DEADLINE, workers=1) as one:
        yield one


@pytest.fixture(scope="module")
def patient_grader() -> Iterator[Grader]:
    """For what is not about the deadline, so that a busy machine does not make it so."""
    with Grader(timeout_seconds=120.0, workers=1) as one:
        yield one


def grade(grader: Grader, gold: str, response: str, reason: FinishReason = STOP) -> Verdict:
    (verdict,) = grader.grade([Answer("a", response, gold, reason)])
    return verdict


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_case(grader: Grader, case: dict[str, object]) -> None:
    verdict = grade(grader, str(case["gold"]), str(case["response"]))
    assert verdict.correct is case["correct"]
    assert verdict.status is not VerdictStatus.TIMEOUT
    assert "failed" not in verdict.verifier


@pytest.mark.parametrize(
    ("response", "reason", "status", "answer"),
    [
        ("<answer>7</answer>", STOP, VerdictStatus.CORRECT, "7"),
        ("<answer>7</answer> and on", LENGTH, VerdictStatus.CORRECT, "7"),
        ("<answer>8</answer>", STOP, VerdictStatus.INCORRECT, "8"),
        ("<answer>8</answer> and on", LENGTH, VerdictStatus.INCORRECT, "8"),
        ("I give up.", STOP, VerdictStatus.UNPARSABLE, None),
        ("7", STOP, VerdictStatus.UNPARSABLE, None),
        ("Let me see", LENGTH, VerdictStatus.TRUNCATED, None),
        ("so \\boxed{7", LENGTH, VerdictStatus.TRUNCATED, None),
        ("so \\boxed{7", STOP, VerdictStatus.UNPARSABLE, None),
        ("so \\boxed{7.", STOP, VerdictStatus.CORRECT, "7"),
    ],
)
def test_status(
    grader: Grader, response: str, reason: FinishReason, status: VerdictStatus, answer: str | None
) -> None:
    assert grade(grader, "7", response, reason) == Verdict("a", status, answer, "sdbench-exact/2")


def test_verdicts_keep_ids_and_order(grader: Grader) -> None:
    """Every third needs a worker; the exact ones do not overtake it."""
    golds = ["1", "\\sqrt{4}x", "\\text{yes}"] * 3
    answers = ["1", "2x", "no"] * 3
    items = [
        Answer(f"p#{index}", f"<answer>{answer}</answer>", gold, STOP)
        for index, (answer, gold) in enumerate(zip(answers, golds, strict=True))
    ]
    verdicts = grader.grade(items)
    assert [verdict.id for verdict in verdicts] == [item.id for item in items]
    assert [verdict.correct for verdict in verdicts] == [True, True, False] * 3
    assert verdicts[0].verifier == "sdbench-exact/2"
    assert verdicts[1].verifier.startswith("math-verify/")


def test_no_items_no_verdicts(grader: Grader) -> None:
    assert grader.grade([]) == []


@pytest.mark.parametrize("gold", ["", "  ", "$$"])
def test_an_empty_right_answer_is_refused(grader: Grader, gold: str) -> None:
    with pytest.raises(DataError, match="right answer of a is empty"):
        grade(grader, gold, "<answer>7</answer>")


EXACT = """
import sys
from sdbench.grading import Answer, Grader
from sdbench.records import FinishReason
pairs = {"7": "8", "42": "042", "0.5": "\\\\frac{1}{2}", "\\\\text{Yes}": "No", "5": "5\\\\text{ cm}"}
items = [Answer(g, f"<answer>{a}</answer>", g, FinishReason.STOP) for g, a in pairs.items()]
with Grader() as grader:
    print([verdict.correct for verdict in grader.grade(items)])
print(sorted({"math_verify", "sympy", "torch", "multiprocessing"} & set(sys.modules)))
"""


def test_the_exact_path_loads_no_algebra_and_starts_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = subprocess.run([sys.executable, "-c", EXACT], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[False, True, True, False, True]", "[]"]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with Grader() as grader:
        assert grade(grader, "42", "<answer>042</answer>").correct


def test_equal_questions_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[pool.Pair] = []

    def compare(_: pool.WorkerPool, pairs: list[pool.Pair]) -> list[Finding]:
        asked.extend(pairs)
        return [Finding.EQUAL] * len(pairs)

    monkeypatch.setattr(pool.WorkerPool, "compare", compare)
    items = [Answer(str(n), "\\boxed{ (x+1)^2 }", "x^2+2x+1", STOP) for n in range(12)]
    with Grader() as grader:
        assert all(verdict.correct for verdict in grader.grade(items))
        assert all(verdict.correct for verdict in grader.grade(items))
    assert asked == [pool.Pair("x^2+2x+1", "(x+1)^2")]


@pytest.mark.parametrize(
    "hostile",
    ["2^(10^(10^10))", "2^{10^{10^{10}}}", "(10^9)!", "\\binom{10^9}{5\\cdot10^8}"],
)
def test_an_endless_computation_is_a_timeout_and_the_next_answer_is_graded(hostile: str) -> None:
    with Grader(timeout_seconds=DEADLINE, workers=1) as grader:
        items = [
            Answer("before", "\\boxed{\\sqrt{1764}}", "42", STOP),
            Answer("hostile", f"\\boxed{{{hostile}}}", "42", STOP),
            Answer("after", "\\boxed{\\sqrt{1764}+0}", "42", STOP),
        ]
        verdicts = {verdict.id: verdict for verdict in grader.grade(items)}
        assert verdicts["hostile"].status is VerdictStatus.TIMEOUT
        assert verdicts["hostile"].answer == exact.canonical(hostile)
        assert verdicts["before"].correct
        assert verdicts["after"].correct


@pytest.mark.parametrize(
    "hostile",
    [
        "9" * 200_000,
        "1e999999999",
        "{" * 5_000 + "1" + "}" * 5_000,
        "\\frac{" * 5_000 + "1" + "}{2}" * 5_000,
        "(" * 900 + "1" + ")" * 900,
        "x" * 3_000_000,
        "1," * 500 + "1",
        "a " * 500_000,
        "\\text{" * 100_000,
        "\0" * 50,
        "\ud800",
    ],
    ids=[
        "200,000 digits",
        "an exponent of nine digits",
        "5,000 nested braces",
        "5,000 nested fractions",
        "900 nested parentheses",
        "3 megabytes of one letter",
        "501 ones",
        "a megabyte of words",
        "100,000 open commands",
        "control characters",
        "half a surrogate pair",
    ],
)
def test_a_monstrous_answer_is_wrong_and_can_be_written(
    patient_grader: Grader, hostile: str
) -> None:
    verdict = grade(patient_grader, "42", f"\\boxed{{{hostile}}}")
    assert verdict.status in (VerdictStatus.INCORRECT, VerdictStatus.UNPARSABLE)
    assert len((verdict.answer or "").encode("utf-8")) <= 2_000


def test_a_worker_that_dies_is_a_timeout_and_is_replaced() -> None:
    """Killed while it computes, which is what the kernel does to one that eats the machine's memory."""
    with Grader(timeout_seconds=60.0, workers=1) as grader:
        assert grade(grader, "x", "\\boxed{x+1}").status is VerdictStatus.INCORRECT
        (busy,) = workers_of(grader)
        killer = threading.Timer(0.5, os.kill, (busy, 9))
        killer.start()
        assert grade(grader, "42", "\\boxed{(10^9)!}").status is VerdictStatus.TIMEOUT
        killer.join()
        assert grade(grader, "2x", "\\boxed{x+x}").correct
        assert workers_of(grader) != [busy]


def test_a_worker_that_died_idle_costs_no_verdict() -> None:
    with Grader(timeout_seconds=60.0, workers=1) as grader:
        assert grade(grader, "2x", "\\boxed{x+x}").correct
        (idle,) = workers_of(grader)
        os.kill(idle, 9)
        os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
        assert grade(grader, "3x", "\\boxed{x+2x}").correct


def test_no_process_is_left_after_close() -> None:
    """A zombie would still be found by waitid; a reaped child is none of ours."""
    grader = Grader(timeout_seconds=DEADLINE, workers=2)
    with grader:
        golds = ["2x", "3x", "4x", "5x"]
        verdicts = grader.grade([Answer(g, "\\boxed{x+x}", g, STOP) for g in golds])
        assert [verdict.correct for verdict in verdicts] == [True, False, False, False]
        assert grade(grader, "42", "\\boxed{(10^9)!}").status is VerdictStatus.TIMEOUT
        pids = workers_of(grader)
        assert pids
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    assert workers_of(grader) == []
    grader.close()


def test_workers_end_with_the_grader_that_is_forgotten() -> None:
    grader = Grader(timeout_seconds=DEADLINE, workers=1)
    assert grade(grader, "2x", "\\boxed{x+x}").correct
    (pid,) = workers_of(grader)
    del grader
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def test_the_memory_limit_is_the_workers() -> None:
    """400 MB, of the address space, as the kernel keeps it."""
    with Grader(timeout_seconds=DEADLINE, workers=1, memory_bytes=400_000_000) as grader:
        assert grade(grader, "2x", "\\boxed{x+x}").correct
        (pid,) = workers_of(grader)
        assert resource.prlimit(pid, resource.RLIMIT_AS) == (400_000_000, 400_000_000)
        assert resource.getrlimit(resource.RLIMIT_AS)[0] != 400_000_000


def test_too_little_memory_to_start_is_an_error() -> None:
    with (
        Grader(workers=1, memory_bytes=1_000_000) as grader,
        pytest.raises(GradingError, match="did not start"),
    ):
        grade(grader, "2x", "\\boxed{x+x}")


def test_warnings_made_errors_do_not_reach_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with Grader(timeout_seconds=DEADLINE, workers=1) as grader:
        assert grade(grader, "2x", "\\boxed{x+x}").correct


def test_a_grader_works_in_a_thread() -> None:
    """math-verify's own timeouts do not: they need signals, which only the main thread may handle."""
    verdicts: list[Verdict] = []

    def run() -> None:
        with Grader(timeout_seconds=DEADLINE, workers=1) as grader:
            verdicts.append(grade(grader, "2x", "\\boxed{x+x}"))
            verdicts.append(grade(grader, "42", "\\boxed{(10^9)!}"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    statuses = [verdict.status for verdict in verdicts]
    assert statuses == [VerdictStatus.CORRECT, VerdictStatus.TIMEOUT]


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (MemoryError, Finding.EXHAUSTED),
        (RecursionError, Finding.FAILED),
        (NotImplementedError, Finding.FAILED),
    ],
)
def test_what_a_comparison_raises_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], finding: Finding
) -> None:
    def fail(*_: object) -> bool:
        raise error

    monkeypatch.setattr("sdbench.grading.equivalence.equivalent", fail)
    assert worker.compare("2x", "x+x") is finding


@pytest.mark.parametrize(
    ("finding", "status", "suffix"),
    [
        (Finding.EQUAL, VerdictStatus.CORRECT, ""),
        (Finding.DIFFERENT, VerdictStatus.INCORRECT, ""),
        (Finding.FAILED, VerdictStatus.INCORRECT, " (failed)"),
        (Finding.EXHAUSTED, VerdictStatus.TIMEOUT, ""),
        (Finding.TIMEOUT, VerdictStatus.TIMEOUT, ""),
    ],
)
def test_every_finding_is_told_apart_in_the_verdict(
    monkeypatch: pytest.MonkeyPatch, finding: Finding, status: VerdictStatus, suffix: str
) -> None:
    monkeypatch.setattr(pool.WorkerPool, "compare", lambda _, pairs: [finding] * len(pairs))
    with Grader() as grader:
        verdict = grade(grader, "2x", "\\boxed{x+x}")
    assert verdict.status is status
    assert verdict.verifier.endswith("+sdbench-rules/1" + suffix)


def workers_of(grader: Grader) -> list[int]:
    """Process ids of the grader's workers."""
    return [each.process.pid for each in grader._pool._workers]
