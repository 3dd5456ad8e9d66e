"""What the model critic does with critiques that fail its audit, and what a run makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from qwen3_fixture import tiny_model
from training_fixture import SEED, ignore, short
from word_problem_fixture import attempt_with, problem_with

from sdbench import traces
from sdbench.arithmetic import expression
from sdbench.arithmetic.expression import Expression
from sdbench.config import PluginConfig, Suite
from sdbench.critics import model as model_critic
from sdbench.critics.base import CriticSurroundings
from sdbench.critics.model import Config, ModelCritic
from sdbench.engines import fake
from sdbench.engines.base import Request, Sampling
from sdbench.grading import Grader
from sdbench.models import ORGANISM
from sdbench.records import Attempt, Completion, Critique, CritiqueCase
from sdbench.rundir import Row, RunDir, read_rows
from sdbench.train.loop import train

MakeAttempt = Callable[[Expression, str, int], Attempt]

FIRST, WRONG, RIGHT = "There are 15 x 4 = 60 boys.", "In all 15 + 60 = 65.", "In all 15 + 60 = 75."
# Two of the first step's nine tokens in other words.
REWORDED = "We have 15 x 4 = 60 boys."


def written(*steps: str, answer: str = "75") -> str:
    return f"<case>D</case>{traces.join(steps, answer)}"


GOOD = written(FIRST, RIGHT)
FAULTY = {
    "unparsable": traces.join([FIRST, RIGHT], "75"),
    "inexact": written(REWORDED, RIGHT),
    "quoted": written(FIRST, f"Not {WRONG} {RIGHT}"),
    "wrong_answer": written(FIRST, RIGHT, answer="76"),
}


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


@pytest.fixture(scope="module")
def attempt(grader: Grader) -> Attempt:
    problem = problem_with("15 girls in the field")
    return attempt_with(grader, problem, traces.join([FIRST, WRONG], "65"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("critic"), max_length=4096)


def critic(folder: Path, *texts: str, **options: object) -> ModelCritic:
    """A critic whose engine writes the texts one after the other, try by try."""
    engine = PluginConfig(name="fake", options={"script": {"*": list(texts)}})
    table = {"model": str(folder), "engine": engine, "max_tokens": 1024, **options}
    return model_critic.build(Config.model_validate(table), CriticSurroundings("steps"))


def critique(made: ModelCritic, attempt: Attempt) -> Critique:
    (found,) = made.critique([attempt])
    return found


@pytest.mark.parametrize("fault", FAULTY)
def test_a_critique_that_fails_is_asked_for_again(
    folder: Path, attempt: Attempt, fault: str
) -> None:
    found = critique(critic(folder, FAULTY[fault], GOOD), attempt)
    assert (found.usable, found.faults, found.first_wrong_step) == (True, (), 2)
    assert found.text == traces.join([FIRST, RIGHT], "75")


@pytest.mark.parametrize("fault", FAULTY)
def test_one_that_fails_to_the_last_keeps_its_faults(
    folder: Path, attempt: Attempt, fault: str
) -> None:
    """And what it cost: both tries."""
    found = critique(critic(folder, FAULTY[fault]), attempt)
    assert (found.usable, found.faults) == (False, (fault,))
    once = critique(critic(folder, FAULTY[fault], retries=0), attempt)
    assert once.faults == (fault,)
    assert found.tokens == 2 * once.tokens > 0


def test_the_right_answer_must_not_stand_in_a_correct_step(
    folder: Path, attempt: Attempt, grader: Grader
) -> None:
    """`Monday` is the answer; the step shows the same figures, and 14 of 16 tokens are its own."""
    own = "Day 8 is day 1 + 7, a day like day 1."
    problem = replace(attempt.problem, answer="Monday", solution=None)
    told = attempt_with(grader, problem, traces.join([own, "So it is day 7."], "Sunday"))
    leaking = written(f"Monday: {own}", "So it is day 1.", answer="Monday")
    lenient = critic(folder, leaking, audit={"verbatim": 0.8})
    assert critique(lenient, told).faults == ("leak",)
    clean = written(own, "So it is day 1.", answer="Monday")
    assert critique(critic(folder, clean), told).usable


@pytest.mark.parametrize("fault", ["inexact", "quoted", "wrong_answer"])
def test_the_thresholds_are_options(folder: Path, attempt: Attempt, fault: str) -> None:
    """7 of 9 tokens pass at 0.75; what need not be refused is not."""
    others = [one for one in ("quoted", "wrong_answer", "leak") if one != fault]
    options = {"verbatim": 0.75 if fault == "inexact" else 0.9, "refuse": others}
    found = critique(critic(folder, FAULTY[fault], audit=options, retries=0), attempt)
    assert found.usable


def test_without_a_right_answer_none_is_demanded(folder: Path, attempt: Attempt) -> None:
    unknown = replace(attempt, problem=replace(attempt.problem, answer=""))
    found = critique(critic(folder, FAULTY["wrong_answer"], sees_solution=False), unknown)
    assert found.usable


def test_what_says_the_same_is_asked_once(folder: Path, attempt: Attempt) -> None:
    """The first has paid; whoever counts what was paid leaves out the second."""
    twin = replace(attempt.rollout, id="twin")
    other = replace(attempt, rollout=twin, verdict=replace(attempt.verdict, id="twin"))
    first, second = critic(folder, GOOD).critique([attempt, other])
    assert (first.rollout_id, first.stored) == (attempt.rollout.id, False)
    assert second == replace(first, rollout_id="twin", stored=True)


def test_a_critique_does_not_wait_for_the_others(
    folder: Path, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are asked for at once; the first is there before the engine has written the second."""
    done: list[str] = []
    original = fake.FakeEngine.stream

    def stream(
        self: fake.FakeEngine, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[Completion]:
        assert len(requests) == 2
        for one in original(self, requests, sampling):
            done.append(one.request_id)
            yield one

    monkeypatch.setattr(fake.FakeEngine, "stream", stream)
    other = replace(attempt, problem=replace(attempt.problem, prompt="Another: 15 + 60?"))
    found = critic(folder, GOOD).critique([attempt, other])
    next(found)
    assert len(done) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"sees_solution": False},
        {"retries": 2},
        {"max_tokens": 512},
        {"audit": {"verbatim": 0.5}},
        {"engine": PluginConfig(name="fake", options={"script": {"*": ["other"]}})},
        {"dtype": "float32"},
    ],
)
def test_another_critic_has_another_identity(folder: Path, changes: dict[str, object]) -> None:
    one = critic(folder, GOOD)
    assert one.identity == critic(folder, GOOD).identity
    assert one.identity != critic(folder, GOOD, **changes).identity


def by_engine(folder: Path, name: str, **options: object) -> str:
    config = Config(model=str(folder), engine=PluginConfig(name=name, options=options))
    return model_critic.build(config, CriticSurroundings("steps")).identity


def test_memory_and_speed_are_no_part_of_an_identity_but_the_engine_is(folder: Path) -> None:
    """Nor is patience. What the engine has room for, or which server it is, changes what is written."""
    hf, vllm, server = (by_engine(folder, name) for name in ("hf", "vllm", "server"))
    assert len({hf, vllm, server}) == 3
    assert by_engine(folder, "hf", batch_rows=7) == hf
    assert by_engine(folder, "vllm", gpu_memory_utilization=0.3, max_num_seqs=8) == vllm
    assert by_engine(folder, "vllm", max_model_len=1024) != vllm
    assert by_engine(folder, "vllm", engine_args={"quantization": "fp8"}) != vllm
    assert by_engine(folder, "server", concurrency=2, retries=0) == server
    assert by_engine(folder, "server", url="http://elsewhere:8000/v1") != server
    assert by_engine(folder, "server", served_name="other") != server


def test_an_identity_is_of_weights_and_prompts_and_not_of_a_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    identity = critic(folder, GOOD).identity
    assert critic(copy, GOOD).identity == identity
    assert (
        critic(tiny_model(tmp_path / "other", max_length=4096, seed=7), GOOD).identity != identity
    )
    monkeypatch.setattr(model_critic, "SCHEMA", 99)
    assert critic(folder, GOOD).identity != identity


def test_the_solver_is_the_suites_own_model(tiny: Suite) -> None:
    """With its dtype and engine; a model with another name has what is usual for it."""
    around = CriticSurroundings("organism", None, "some/model", "float32", tiny.engine)
    solver = model_critic.build(Config(model="solver"), around)._config
    assert (solver.model, solver.dtype, solver.engine) == ("some/model", "float32", tiny.engine)
    other = model_critic.build(Config(model="other/model"), around)._config
    assert (other.model, other.dtype, other.engine) == ("other/model", "bfloat16", tiny.engine)


def written_by_the_organism(text: str) -> ModelCritic:
    engine = PluginConfig(name="fake", options={"script": {"*": [text]}})
    config = Config(model="solver", engine=engine, audit={"verbatim": 0, "refuse": ()})  # type: ignore[arg-type]
    return model_critic.build(config, CriticSurroundings("organism", model=ORGANISM))


@pytest.mark.parametrize(
    ("own", "given", "case"),
    [
        (("4*6=4", "4+3=7"), None, "A"),
        (("4*6=4", "4+3=8"), (("4*6=4", "4+3=7"), "7"), "D"),
        (("4*6=4",), (("4*6=4", "4+3=7"), "7"), "C"),
    ],
)
def test_where_no_case_is_asked_for_it_is_read_off(
    attempt_at: MakeAttempt,
    own: tuple[str, ...],
    given: tuple[tuple[str, ...], str] | None,
    case: str,
) -> None:
    text = traces.join(own, None if case == "C" else own[-1][-1])
    steps, answer = given or (own, own[-1][-1])
    made = written_by_the_organism(traces.join(steps, answer))
    found = critique(made, attempt_at(expression.parse("4*6+3"), text, 0))
    assert found.case == CritiqueCase(case)
    assert found.first_wrong_step == (None if case == "A" else 2)


def test_the_tiny_solver_reads_an_attempt_and_writes_anew(attempt_at: MakeAttempt) -> None:
    """Its own weights, greedily; what it reads besides the problem is the attempt alone."""
    config = Config(model="solver", audit={"verbatim": 0, "refuse": ()})  # type: ignore[arg-type]
    made = model_critic.build(config, CriticSurroundings("organism", model=ORGANISM))
    own = traces.join(["4*6=4", "4+3=7"], "7")
    attempts = [
        attempt_at(expression.parse("4*6+3"), own, 0),
        attempt_at(expression.parse("4*6+3"), own * 40, 1),
    ]
    read, long = sorted(made.critique(attempts), key=lambda one: one.rollout_id)
    made.close()
    assert traces.parse(read.text).well_formed
    assert read.case is not None
    assert (long.case, long.faults, long.tokens) == (None, ("overlong",), 0)


UNREADABLE = (
    'critic={name="model", options={model="solver", '
    'engine={name="fake", options={script={"*"=["4"]}}}}}'
)


def log(run: RunDir, name: str) -> list[object]:
    return [row.get(name) for row in read_rows(run.train_log)]


def paid(run: RunDir) -> tuple[int, int]:
    ledger = run.read_manifest()["ledger"]
    assert isinstance(ledger, dict)
    return int(str(ledger["critic_tokens"])), int(str(ledger["critic_tokens_stored"]))


def test_a_run_counts_what_it_drops_by_fault(tmp_path: Path) -> None:
    run = train(short(UNREADABLE), "critique", SEED, tmp_path / "run", ignore)
    assert log(run, "feedback/critique") == [1.0] * 3
    assert log(run, "feedback/fault_unparsable") == [1.0] * 3
    assert log(run, "feedback/fault_inexact") == [None] * 3
    told = [row["critique"] for row in read_rows(run.feedback)]
    assert all(isinstance(one, dict) and one["faults"] == ["unparsable"] for one in told)


def test_shares_by_fault_are_of_all_rollouts(tmp_path: Path) -> None:
    """Of each update's 4 the solver copies some right ones; the rest fail by one fault or more."""
    suite = short('critic={name="model", options={model="solver"}}')
    run = train(suite, "critique", SEED, tmp_path / "run", ignore)
    for row in read_rows(run.train_log):
        told = [one for one in read_rows(run.feedback) if one["update"] == row["update"]]
        critiques = [one["critique"] for one in told]
        for fault in ("inexact", "quoted", "wrong_answer", "unparsable"):
            having = sum(fault in one["faults"] for one in critiques)  # type: ignore[index,operator,call-overload]
            assert row.get(f"feedback/fault_{fault}", 0.0) == having / 4
        dropped = sum(bool(one["faults"]) for one in critiques)  # type: ignore[index,call-overload]
        assert row.get("feedback/critique", 0.0) == dropped / 4


def test_a_second_run_pays_for_no_critique(tmp_path: Path) -> None:
    """Its ledger says what its critiques cost, and that another run had paid."""
    suite, store = short(UNREADABLE), tmp_path / "critiques"
    first = train(suite, "critique", SEED, tmp_path / "1", ignore, store=store)
    cost, found = paid(first)
    assert (cost > 0, found) == (True, 0)
    kept = {path.name: path.read_bytes() for path in store.iterdir()}
    second = train(suite, "critique", SEED, tmp_path / "2", ignore, store=store)
    assert paid(second) == (cost, cost)
    assert {path.name: path.read_bytes() for path in store.iterdir()} == kept


def test_a_continued_run_has_the_ledger_of_the_undisturbed_one(tmp_path: Path) -> None:
    """Stopped after update 3, saved after 2: the third update's critiques were paid by itself."""
    suite = short(UNREADABLE, "train.updates=4")
    whole = train(suite, "critique", SEED, tmp_path / "1", ignore, store=tmp_path / "one store")

    def stop(update: int, row: Row) -> None:
        if update == 3 and row:
            raise KeyboardInterrupt

    store = tmp_path / "another"
    with pytest.raises(KeyboardInterrupt):
        train(suite, "critique", SEED, tmp_path / "2", stop, store=store)
    bought = {path.name: path.stat().st_size for path in store.iterdir()}
    continued = train(suite, "critique", SEED, tmp_path / "2", ignore, store=store)
    assert paid(continued) == paid(whole)
    assert all(path.stat().st_size > bought[path.name] for path in store.iterdir())
    rows = [row["key"] for path in store.iterdir() for row in read_rows(path)]
    assert len(rows) == len(set(map(str, rows))), "something was bought twice"
    assert [dict(row) for row in read_rows(continued.feedback)] == list(read_rows(whole.feedback))
