"""Evaluation: samples drawn once, scores by hand, a choice that never sees the test set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from qwen3_fixture import tiny_model

from sdbench import models, prompts
from sdbench.arithmetic.expression import parse
from sdbench.arithmetic.expression import sample as sample_problem
from sdbench.arithmetic.worked import Order, carry_out, plan, write_solution
from sdbench.config import Thinking, load_suite
from sdbench.engines import fake
from sdbench.engines.base import Engine, Request, Sampling, ignore
from sdbench.errors import ConfigError, DataError
from sdbench.evaluate import evaluation, score
from sdbench.evaluate.sample import Engines, Settings, sample, sample_id
from sdbench.evaluate.select import halves_of, select
from sdbench.grading import Grader
from sdbench.models import Model
from sdbench.records import (
    Completion,
    FinishReason,
    Metric,
    Problem,
    Sample,
    Verdict,
    VerdictStatus,
)
from sdbench.rundir import Row, RunDir, append_rows, read_json, read_rows, to_row, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

SETTINGS = Settings("abc", "fake", 1.0, 40, 0)


class Interrupted(Exception):
    """Stands for whatever ends an evaluation from outside."""


class Counting:
    """An engine that notes every draw, and breaks off before the draw with this number."""

    def __init__(self, engine: Engine, fail_at: int | None = None) -> None:
        self.engine = engine
        self.fail_at = fail_at
        self.drawn: list[str] = []

    @property
    def model(self) -> Model:
        return self.engine.model

    @property
    def max_length(self) -> int:
        return self.engine.max_length

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        for one in self.engine.stream(requests, sampling):
            if len(self.drawn) == self.fail_at:
                raise Interrupted
            self.drawn.append(sample_id(one.request_id, one.index))
            yield one

    @property
    def shares_weights(self) -> bool:
        return self.engine.shares_weights

    def switch(self, model: Model) -> None:
        self.engine.switch(model)

    def sync(self, network: PreTrainedModel | PeftModel) -> None:
        self.engine.sync(network)

    def close(self) -> None:
        self.engine.close()


def some_problems(count: int) -> list[Problem]:
    rng = random.Random(0)
    made = []
    for number in range(count):
        expression = sample_problem(rng)
        made.append(
            Problem(f"p{number}", "arithmetic", "test", expression.text, str(expression.value))
        )
    return made


def counting(organism: Model, fail_at: int | None = None) -> Counting:
    script = {"*": ["<answer>1</answer>", "<answer>2</answer>", "<answer>3</answer>"]}
    return Counting(fake.build(fake.Config(script=script), organism), fail_at)


def test_samples_come_in_order_and_are_on_disk(organism: Model, tmp_path: Path) -> None:
    problems, engine = some_problems(3), counting(organism)
    found = sample(tmp_path, problems, 2, SETTINGS, lambda: engine, ignore)
    assert [s.id for s in found] == ["p0#0", "p0#1", "p1#0", "p1#1", "p2#0", "p2#1"]
    assert [s.text for s in found[:2]] == ["<answer>1</answer>", "<answer>2</answer>"]
    assert found[0].completion_tokens == 4  # two tags, a digit and the end of text
    rows = list(read_rows(tmp_path / "samples.jsonl"))
    assert rows == [{**to_row(s), "finish_reason": s.finish_reason.value} for s in found]


def test_what_is_there_is_not_drawn_again(organism: Model, tmp_path: Path) -> None:
    """The same call opens no engine at all; a larger k draws only the new samples."""
    problems, engine = some_problems(3), counting(organism)
    first = sample(tmp_path, problems, 2, SETTINGS, lambda: engine, ignore)

    def refuse() -> Engine:
        pytest.fail("nothing is missing")

    assert sample(tmp_path, problems, 2, SETTINGS, refuse, ignore) == first
    assert sample(tmp_path, problems[:1], 1, SETTINGS, refuse, ignore) == first[:1]
    more = counting(organism)
    raised = sample(tmp_path, problems, 4, SETTINGS, lambda: more, ignore)
    assert more.drawn == [f"p{n}#{index}" for n in range(3) for index in (2, 3)]
    assert [s for s in raised if s.index < 2] == first
    assert len(list(read_rows(tmp_path / "samples.jsonl"))) == 12


def test_a_killed_evaluation_goes_on_where_it_was(organism: Model, tmp_path: Path) -> None:
    """Broken off at the eighth draw; a line is cut short as a kill would leave it."""
    problems = some_problems(9)
    killed = counting(organism, fail_at=7)
    with pytest.raises(Interrupted):
        sample(tmp_path, problems, 2, SETTINGS, lambda: killed, ignore)
    path = tmp_path / "samples.jsonl"
    assert [row["id"] for row in read_rows(path)] == killed.drawn
    with path.open("a") as file:
        file.write('{"id": "p3#1", "prob')
    resumed = counting(organism)
    found = sample(tmp_path, problems, 2, SETTINGS, lambda: resumed, ignore)
    assert sorted(killed.drawn + resumed.drawn) == sorted(s.id for s in found)
    whole = sample(tmp_path / "whole", problems, 2, SETTINGS, lambda: counting(organism), ignore)
    assert found == whole
    assert path.read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()


def test_what_comes_in_another_order_ends_in_the_same_file(organism: Model, tmp_path: Path) -> None:
    class Backwards(Counting):
        def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            return iter(list(super().stream(requests, sampling))[::-1])

    problems = some_problems(3)
    sample(tmp_path / "a", problems, 2, SETTINGS, lambda: counting(organism), ignore)
    backwards = Backwards(counting(organism).engine)
    sample(tmp_path / "b", problems, 2, SETTINGS, lambda: backwards, ignore)
    files = [(tmp_path / name / "samples.jsonl").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_two_processes_do_not_sample_into_one_folder(organism: Model, tmp_path: Path) -> None:
    """The second is refused while the first is drawing, and not afterwards."""
    problems = some_problems(2)

    class Intruding(Counting):
        def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            with pytest.raises(DataError, match="another process is sampling"):
                sample(tmp_path, problems, 1, SETTINGS, lambda: pytest.fail("no"), ignore)
            return super().stream(requests, sampling)

    first = Intruding(counting(organism).engine)
    found = sample(tmp_path, problems, 1, SETTINGS, lambda: first, ignore)
    assert sample(tmp_path, problems, 1, SETTINGS, lambda: pytest.fail("no"), ignore) == found


def test_samples_of_another_prompt_are_drawn_anew(organism: Model, tmp_path: Path) -> None:
    """The prompt of p1 has changed since: its samples go, those of p0 and p2 stay."""
    problems = some_problems(3)
    sample(tmp_path, problems, 2, SETTINGS, lambda: counting(organism), ignore)
    problems[1] = dataclasses.replace(problems[1], prompt="1+1")
    engine = counting(organism)
    found = sample(tmp_path, problems, 2, SETTINGS, lambda: engine, ignore)
    assert engine.drawn == ["p1#0", "p1#1"]
    assert [row["id"] for row in read_rows(tmp_path / "samples.jsonl")] == [s.id for s in found]


def test_samples_lost_from_the_middle_are_drawn_anew_and_only_they(
    organism: Model, tmp_path: Path
) -> None:
    problems = some_problems(3)
    whole = sample(tmp_path, problems, 3, SETTINGS, lambda: counting(organism), ignore)
    path = tmp_path / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4] + lines[5:8]))
    engine = counting(organism)
    assert sample(tmp_path, problems, 3, SETTINGS, lambda: engine, ignore) == whole
    assert engine.drawn == ["p1#1", "p2#2"]


def test_progress_counts_old_and_new_samples_once(organism: Model, tmp_path: Path) -> None:
    problems = some_problems(3)
    sample(tmp_path, problems[:2], 2, SETTINGS, lambda: counting(organism), ignore)
    seen: list[int] = []
    sample(tmp_path, problems, 3, SETTINGS, lambda: counting(organism), seen.append)
    assert sum(seen) == 9


def test_fewer_than_one_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k = 0: allowed are whole numbers from 1"):
        sample(tmp_path, some_problems(1), 0, SETTINGS, lambda: pytest.fail("no"), ignore)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SETTINGS, model="abd"),
        dataclasses.replace(SETTINGS, engine="hf"),
        dataclasses.replace(SETTINGS, temperature=0.9),
        dataclasses.replace(SETTINGS, max_tokens=41),
        dataclasses.replace(SETTINGS, seed=1),
        dataclasses.replace(SETTINGS, template="other"),
        dataclasses.replace(SETTINGS, style="steps"),
        dataclasses.replace(SETTINGS, thinking=True),
        dataclasses.replace(SETTINGS, thinking=False),
    ],
)
def test_each_setting_has_its_part_in_the_key(other: Settings) -> None:
    assert other.key != SETTINGS.key
    assert len(other.key) == len(SETTINGS.key) == 12


@pytest.mark.parametrize("style", ["plain", "organism"])
def test_the_bare_problem_keeps_the_key_that_it_had_before_there_were_styles(
    style: prompts.Style,
) -> None:
    """So what was sampled then is still there: the hash of these six settings alone."""
    row = {"model": "abc", "engine": "fake", "temperature": 1.0, "max_tokens": 40, "seed": 0}
    row["template"] = ""
    before = hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12]
    settings = dataclasses.replace(SETTINGS, style=style)
    assert settings.as_row() == row
    assert settings.key == before


def test_another_text_under_the_same_style_has_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = dataclasses.replace(SETTINGS, style="steps", thinking=False)
    assert {**settings.as_row(), "prompt": 0, "template": ""} == {
        **SETTINGS.as_row(),
        "style": "steps",
        "thinking": False,
        "prompt": 0,
    }
    before = settings.key
    monkeypatch.setattr(prompts, "template", lambda style, kind: "{prompt} In steps, please.")
    assert settings.key != before


def test_the_suites_style_and_thinking_reach_the_samples(tmp_path: Path) -> None:
    """Qwen3 with thinking off; another task of the run is asked in the same way."""
    model = models.open_model(str(tiny_model(tmp_path / "model", max_length=4096)))
    suite = SUITE.model_copy(
        update={
            "model": model.source,
            "prompts": "steps",
            "thinking": Thinking(student=True, evaluation=False),
        }
    )
    plan = evaluation.checkpoint_plan(suite, tmp_path, "000000", model.source, "test")
    plan = evaluation.other_task(plan, "champ")
    asked: list[Request] = []

    class Listening(Counting):
        def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
            asked.extend(requests)
            return super().stream(requests, sampling)

    engine = Listening(fake.build(fake.Config(), model))
    problems = some_problems(2)
    sample(plan.folder, problems, 1, plan.settings, lambda: engine, ignore)
    turns = [prompts.solver_turn("steps", problem.prompt) for problem in problems]
    assert [request.prompt for request in asked] == turns
    expected = [prompts.solver(model.tokenizer, "steps", p.prompt, False) for p in problems]
    assert [request.prompt_ids for request in asked] == expected
    assert model.decode(expected[0]).endswith("<think>\n\n</think>\n\n")


# 4*6=4, 4+3=7, 7-5=2, 7*2=4, 2+4=6.
EXPRESSION = parse("4*6+3-5+7*2")
WHOLE = write_solution(carry_out(EXPRESSION, plan(EXPRESSION, Order.INTERLEAVED)))


def scored() -> list[score.Scored]:
    """Problem a: right by right steps, right by luck, wrong, cut; problem b: four unparsable."""
    a = Problem("a", "arithmetic", "test", EXPRESSION.text, "6")
    b = Problem("b", "arithmetic", "test", EXPRESSION.text, "6")
    drawn = [
        ("a", WHOLE, "6", VerdictStatus.CORRECT, 50),
        ("a", "<answer>6</answer>", "6", VerdictStatus.CORRECT, 4),
        ("a", "<answer>5</answer>", "5", VerdictStatus.INCORRECT, 4),
        ("a", "<step_1>", None, VerdictStatus.TRUNCATED, 96),
        *[("b", "", None, VerdictStatus.UNPARSABLE, 1)] * 4,
    ]
    samples, verdicts = [], []
    for number, (problem, text, answer, status, tokens) in enumerate(drawn):
        one = sample_id(problem, number % 4)
        samples.append(Sample(one, problem, number % 4, text, tokens, FinishReason.STOP))
        verdicts.append(Verdict(one, status, answer, "by hand"))
    return score.join([a, b], samples[::-1], verdicts)


def test_metrics_by_hand() -> None:
    """Avg (2/4 + 0) / 2; pass (1 + 0) / 2; majority of a is 6 with two votes against one, of b none.

    One of eight traces is right in every step: (1/4 + 0) / 2. Lengths (154/4 + 1) / 2 = 19.75.
    """
    found = score.score(scored(), 4)
    values = {name: score.metric_of(found, name).value for name in _table(found["metrics"])}
    assert values == pytest.approx(
        {
            "avg@4": 0.25,
            "pass@4": 0.5,
            "maj@4": 0.5,
            "all_steps_right@4": 0.125,
            "length": 19.75,
            "truncated": 0.125,
            "unparsable": 0.5,
            "timeout": 0.0,
        }
    )
    of_a = _table(_table(found["per_problem"])["a"])
    expected = {"avg": 0.5, "pass": 1.0, "maj": 1.0, "all_steps_right": 0.25}
    assert {name: of_a[name] for name in expected} == expected
    assert of_a["correct"] == [1, 1, 0, 0]


def test_metrics_do_not_depend_on_the_order_of_problems() -> None:
    forward, backward = score.score(scored(), 4), score.score(scored()[::-1], 4)
    for name in _table(forward["metrics"]):
        one, other = score.metric_of(forward, name), score.metric_of(backward, name)
        assert one.value == pytest.approx(other.value)


def _table(value: object) -> Row:
    assert isinstance(value, dict)
    return value


def test_a_sample_without_a_verdict_is_an_error() -> None:
    whole = scored()
    samples = [one for s in whole for one in s.samples]
    with pytest.raises(KeyError):
        score.join([s.problem for s in whole], samples, [])


def results(**values: float) -> dict[str, Row]:
    """Validation results by checkpoint, given as `c000010=0.5`."""
    return {
        label[1:]: {
            "metrics": {"avg@4": dataclasses.asdict(Metric(value, 0.1, 0.0, 1.0, 10, None))}
        }
        for label, value in values.items()
    }


@pytest.mark.parametrize(
    ("scores", "selected"),
    [
        ({"c000010": 0.2, "c000020": 0.5, "c000030": 0.4}, "000020"),
        ({"c000030": 0.5, "c000020": 0.5, "c000010": 0.2}, "000020"),  # earliest of equals
        ({"c000000": 0.9, "c000010": 0.1, "c000020": 0.2}, "000020"),  # untrained never chosen
        ({"c000000": 0.9, "c000010": 0.1}, "000010"),
        ({"c000010": 0.0, "c000100": 0.0, "c000020": 0.0}, "000010"),
    ],
)
def test_the_best_on_validation_is_selected(scores: dict[str, float], selected: str) -> None:
    found = select(results(**scores), "avg@4")
    assert found.selected == selected
    assert found.last == max(scores)[1:]
    assert set(found.scores) == {label[1:] for label in scores}
    row = found.as_row()
    assert (row["split"], row["metric"], row["selected"]) == ("validation", "avg@4", selected)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as one:
        yield one


@pytest.fixture
def engines() -> Iterator[Engines]:
    with Engines() as opened:
        yield opened


SUITE = load_suite(
    "tiny",
    [
        "data.validation_problems=5",
        "data.test_problems=4",
        "evaluation.k=3",
        "evaluation.validation_k=2",
    ],
)


@pytest.fixture
def run(tmp_path: Path, organism: Model) -> RunDir:
    """Three checkpoints: the organism, one that is broken by noise, and the organism again."""
    found = RunDir(tmp_path / "tiny" / "critique" / "seed0")
    for update in (1, 2, 3):
        folder = found.checkpoint(update)
        model = models.load("organism")
        if update == 2:
            with torch.no_grad():
                model.network.lm_head.weight.add_(1.0)
                model.network.lm_head.weight[2].add_(3.0)
        else:
            with torch.no_grad():
                model.network.model.norm.weight.mul_(1 + update * 1e-6)
        model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    return found


def folders(run: RunDir) -> set[str]:
    return {str(path.parent.relative_to(run.root / "eval")) for path in run.root.glob("eval/*/*/*")}


def contents(run: RunDir) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.root.rglob("eval/**/*") if path.is_file()}


def test_a_run_is_chosen_on_validation_before_the_test_set_is_seen(
    run: RunDir, grader: Grader, engines: Engines
) -> None:
    """Every checkpoint and the untrained model on validation; test for the chosen and the last."""
    chosen = evaluation.evaluate_run(run, SUITE, grader, engines, ignore)
    labels = ["000000", "000001", "000002", "000003"]
    assert list(chosen.scores) == labels
    assert (chosen.selected, chosen.last) == ("000001", "000003")
    assert chosen.scores["000001"].value == chosen.scores["000003"].value
    assert folders(run) == {f"{label}/arithmetic-validation" for label in labels} | {
        f"{label}/arithmetic-test" for label in ("000001", "000003")
    }
    assert read_json(run.selection) == chosen.as_row()
    found = evaluation.read_results(run, "000003", "arithmetic", "test", "k3")
    assert found is not None
    assert (found["k"], found["split"], found["checkpoint"]) == (3, "test", "000003")
    assert len(_table(found["per_problem"])) == 4
    assert evaluation.read_results(run, "000002", "arithmetic", "test", "k3") is None


def test_a_run_without_validation_is_chosen_by_cross_fitting(
    run: RunDir, grader: Grader, engines: Engines
) -> None:
    """Every checkpoint on test and none on validation; each problem's row is that of the checkpoint
    that the other half of the problems chose."""
    settings = SUITE.evaluation.model_copy(update={"selection": "cross-fit"})
    suite = SUITE.model_copy(update={"evaluation": settings})
    counted: list[int] = []
    chosen = evaluation.evaluate_run(run, suite, grader, engines, counted.append)
    assert sum(counted) == evaluation.samples_wanted(suite, 3) == 4 * 4 * 3
    assert (chosen.selected, chosen.last, chosen.split) == ("cross-fit", "000003", "test")
    labels = ("000000", "000001", "000002", "000003", "cross-fit")
    assert folders(run) == {f"{label}/arithmetic-test" for label in labels}
    fitted = evaluation.read_results(run, "cross-fit", "arithmetic", "test", "k3")
    assert fitted is not None
    rows = _table(fitted["per_problem"])
    for half, label in zip(halves_of([*rows]), chosen.halves, strict=True):
        theirs = evaluation.read_results(run, label, "arithmetic", "test", "k3")
        assert theirs is not None
        assert {p: rows[p] for p in half} == {p: _table(theirs["per_problem"])[p] for p in half}


def test_an_evaluation_made_twice_draws_once_and_gives_the_same(
    run: RunDir, grader: Grader, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluation.evaluate_run(run, SUITE, grader, engines, ignore)
    before = {
        path: path.read_bytes() for path in run.root.glob("eval/*/*/*/**/*") if path.is_file()
    }
    monkeypatch.setattr(models, "open_model", lambda *_: pytest.fail("no model is needed"))
    counted: list[int] = []
    assert evaluation.evaluate_run(run, SUITE, grader, engines, counted.append) == first
    assert {
        path: path.read_bytes() for path in run.root.glob("eval/*/*/*/**/*") if path.is_file()
    } == before
    assert sum(counted) == 4 * 5 * 2 + 2 * 4 * 3
    assert sum(counted) == evaluation.samples_wanted(SUITE, 3)


def test_the_untrained_models_samples_are_shared_between_runs(
    run: RunDir, grader: Grader, engines: Engines
) -> None:
    """They lie in the base run of the suite; a run takes them over instead of drawing them."""
    base = RunDir(run.root.parent.parent / "base" / "seed0")
    plan_ = evaluation.checkpoint_plan(SUITE, base.root, "000000", "organism", "validation")
    evaluation.evaluate(plan_, grader, engines, ignore)
    held = base.root / plan_.folder.relative_to(base.root) / "samples.jsonl"
    rows = [{**row, "text": "<answer>taken over</answer>"} for row in read_rows(held)]
    held.unlink()
    append_rows(held, rows)
    evaluation.evaluate_run(run, SUITE, grader, engines, ignore)
    ours = run.root / plan_.folder.relative_to(base.root) / "samples.jsonl"
    assert list(read_rows(ours)) == rows


def test_a_run_without_a_checkpoint_is_refused(
    tmp_path: Path, grader: Grader, engines: Engines
) -> None:
    run = RunDir(tmp_path)
    write_json(run.manifest, {})
    with pytest.raises(DataError, match="has no checkpoint yet"):
        evaluation.evaluate_run(run, SUITE, grader, engines, ignore)
