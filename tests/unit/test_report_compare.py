"""Run folders to a comparison: what is read, what is averaged, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import Shape, write_model, write_run, write_suite

from sdbench import stats
from sdbench.errors import DataError
from sdbench.evaluate.score import summarise
from sdbench.report import compare, wording
from sdbench.report.schema import Comparison, CriticAudit, Pair
from sdbench.report.sections import critics
from sdbench.rundir import Row, RunDir, read_json, write_json

SMALL = Shape(seeds=2, problems=13, k=4, validation_problems=5, validation_k=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_suite(tmp_path_factory.mktemp("runs"), ("critique", "grpo"), SMALL)


@pytest.fixture(scope="module")
def comparison(folders: list[Path]) -> Comparison:
    return compare.build(folders, "A title", "sdbench report runs/tiny")


def test_a_comparison_is_plain_json(comparison: Comparison) -> None:
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_every_run_is_there_with_its_checkpoints(comparison: Comparison) -> None:
    named = [(run["condition"], run["seed"]) for run in comparison["runs"]]
    assert named == [("critique", 0), ("critique", 1), ("grpo", 0), ("grpo", 1), ("base", 0)]
    assert comparison["runs"][-1]["checkpoint"] == {
        "selected": "000000",
        "last": "000000",
        "halves": [],
    }
    assert {run["checkpoint"]["last"] for run in comparison["runs"][:-1]} == {"000060"}


def test_a_score_is_the_mean_over_seeds_of_the_results(
    folders: list[Path], comparison: Comparison
) -> None:
    """Every problem has k samples, so the mean of seeds' means is the mean over all."""
    row = next(r for r in comparison["leaderboard"] if r["condition"] == "grpo")
    runs = [run for run in comparison["runs"] if run["condition"] == "grpo"]
    for name, score in row["selected"].items():
        values = [run["metrics"]["test"][name]["value"] for run in runs]
        assert score["value"] == pytest.approx(fmean(values))
        assert score["per_seed"] == pytest.approx(values)


def test_the_interval_is_clustered_by_problem_over_the_seeds_mean(
    folders: list[Path], comparison: Comparison
) -> None:
    per_problem: dict[str, list[float]] = {}
    for folder in folders:
        if "critique" in str(folder):
            selected = read_json(folder / "selection.json")["selected"]
            results = next(
                (folder / "eval" / str(selected)).glob("arithmetic-test/*/*/results.json")
            )
            rows = cast("dict[str, dict[str, float]]", read_json(results)["per_problem"])
            for problem, values in rows.items():
                per_problem.setdefault(problem, []).append(values["avg"])
    expected = stats.estimate({problem: fmean(values) for problem, values in per_problem.items()})
    row = next(r for r in comparison["leaderboard"] if r["condition"] == "critique")
    assert row["selected"]["avg@4"]["low"] == pytest.approx(expected.low)
    assert row["selected"]["avg@4"]["standard_error"] == pytest.approx(expected.standard_error)


def test_the_error_over_these_problems_falls_with_independent_seeds(comparison: Comparison) -> None:
    """Two seeds with errors a and b: the mean of both has sqrt(a^2 + b^2) / 2."""
    row = next(r for r in comparison["leaderboard"] if r["condition"] == "grpo")
    a, b = (
        run["metrics"]["test"]["avg@4"]["these_problems_standard_error"]
        for run in comparison["runs"]
        if run["condition"] == "grpo"
    )
    assert a is not None and b is not None
    found = row["selected"]["avg@4"]["these_problems_standard_error"]
    assert found == pytest.approx((a**2 + b**2) ** 0.5 / 2)


def test_conditions_stand_in_order_of_their_score(comparison: Comparison) -> None:
    scores = [row["selected"]["avg@4"]["value"] for row in comparison["leaderboard"]]
    assert scores == sorted(scores, reverse=True)


def test_each_condition_is_compared_with_one_if_asked(
    folders: list[Path], comparison: Comparison
) -> None:
    """Two pairs instead of three, so Holm corrects for two; each figure is that of all pairs."""
    asked = compare.build(folders, "t", "c", against="critique")
    assert [(pair["first"], pair["second"]) for pair in asked["pairs"]] == [
        ("critique", "grpo"),
        ("critique", "base"),
    ]
    adjusted = stats.holm({str(i): pair["p"] for i, pair in enumerate(asked["pairs"])})
    assert [pair["p_holm"] for pair in asked["pairs"]] == list(adjusted.values())
    differences = [pair["difference"] for pair in comparison["pairs"][:2]]
    assert [pair["difference"] for pair in asked["pairs"]] == differences
    with pytest.raises(DataError, match=r"no run of condition 'critic'.*found: critique, grpo"):
        compare.build(folders, "t", "c", against="critic")


def test_all_pairs_are_compared_and_the_untrained_model_comes_second(
    comparison: Comparison,
) -> None:
    pairs = [(pair["first"], pair["second"]) for pair in comparison["pairs"]]
    assert pairs == [("critique", "grpo"), ("critique", "base"), ("grpo", "base")]
    adjusted = stats.holm({str(i): pair["p"] for i, pair in enumerate(comparison["pairs"])})
    assert [pair["p_holm"] for pair in comparison["pairs"]] == list(adjusted.values())


def test_a_difference_is_the_difference_of_the_scores(comparison: Comparison) -> None:
    scores = {r["condition"]: r["selected"]["avg@4"]["value"] for r in comparison["leaderboard"]}
    for pair in comparison["pairs"]:
        assert pair["difference"] == pytest.approx(scores[pair["first"]] - scores[pair["second"]])


def test_the_last_checkpoint_is_kept_beside_the_selected_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "critique", 0, SMALL)
    chosen = read_json(tmp_path / "run" / "selection.json")
    found = compare.build([tmp_path / "run"], "t", "c")
    run = found["runs"][0]
    for key, label in (("test", chosen["selected"]), ("test_last", chosen["last"])):
        path = next(
            (tmp_path / "run" / "eval" / str(label)).glob("arithmetic-test/*/*/results.json")
        )
        assert run["metrics"][key] == read_json(path)["metrics"]  # type: ignore[literal-required]


def test_curves_hold_every_checkpoint_and_a_band(comparison: Comparison) -> None:
    assert [curve["condition"] for curve in comparison["curves"]] == ["critique", "grpo"]
    for curve in comparison["curves"]:
        assert [point["update"] for point in curve["mean"]] == list(range(0, 61, 10))
        assert all(p["low"] is not None and p["low"] <= p["value"] for p in curve["mean"])
        assert [seed["seed"] for seed in curve["seeds"]] == [0, 1]


def test_curves_do_without_the_evaluations_behind_them(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "grpo", 0, SMALL)
    for folder in (tmp_path / "run" / "eval").glob("*/arithmetic-validation"):
        shutil.rmtree(folder)
    found = compare.build([tmp_path / "run"], "t", "c")
    scores = read_json(tmp_path / "run" / "selection.json")["scores"]
    assert isinstance(scores, dict)
    points = found["curves"][0]["mean"]
    assert [p["value"] for p in points] == [s["value"] for s in scores.values()]  # type: ignore
    assert all(p["low"] is None for p in points)


def test_only_conditions_with_a_teacher_have_advantages(comparison: Comparison) -> None:
    assert [one["condition"] for one in comparison["advantages"]] == ["critique"]
    assert [view["condition"] for view in comparison["examples"][0]["views"]] == ["critique"]


def test_every_run_that_has_an_audit_shows_it(
    folders: list[Path], comparison: Comparison, tmp_path: Path
) -> None:
    """As it was written, run by run; a report without any has no such section."""
    shown = [(one["condition"], one["seed"]) for one in comparison["critics"]]
    assert shown == [("critique", 0), ("critique", 1)]
    (folder,) = (one for one in folders if one.parts[-2:] == ("critique", "seed1"))
    written, one = read_json(RunDir(folder).audit), comparison["critics"][1]
    assert {name: one[name] for name in ("critic", "attempts", "shares", "faults")} == {
        name: written[name] for name in ("critic", "attempts", "shares", "faults")
    }
    assert one["ratio"] == cast(Row, written["lengths"])["ratio"]
    without: Comparison = {**comparison, "critics": []}
    assert critics.render(without) == critics.markdown(without) == ""


def test_shares_nobody_could_judge_are_dashes_and_no_table_is_empty(
    comparison: Comparison,
) -> None:
    first = comparison["critics"][0]
    bare: CriticAudit = {
        **first,
        "shares": dict.fromkeys(first["shares"]),
        "ratio": None,
        "confusion": {},
        "faults": {},
    }
    text = critics.markdown({**comparison, "critics": [bare]})
    (row,) = (line for line in text.splitlines() if line.startswith("| critique, seed 0"))
    assert row.split("|")[4:-1] == [f" {wording.NONE} "] * 8


def test_completions_up_to_the_selected_checkpoint(comparison: Comparison) -> None:
    """GRPO draws 32 x 8 completions an update: 256 times the mean of the seeds' selected updates."""
    row = next(row for row in comparison["ledger"] if row["condition"] == "grpo")
    chosen = [
        int(r["checkpoint"]["selected"]) for r in comparison["runs"] if r["condition"] == "grpo"
    ]
    assert row["completions_selected"] == pytest.approx(256 * fmean(chosen))
    assert row["mean"]["completions"] == 256 * 60


def test_a_single_run_and_runs_without_the_untrained_model_work(folders: list[Path]) -> None:
    alone = compare.build(folders[1:2], "t", "c")
    assert alone["pairs"] == [] and len(alone["leaderboard"]) == 1
    assert alone["leaderboard"][0]["selected"]["avg@4"]["seeds"] is None
    trained = compare.build(folders[1:], "t", "c")
    assert [(p["first"], p["second"]) for p in trained["pairs"]] == [("critique", "grpo")]


def test_only_the_untrained_model_works_too(folders: list[Path]) -> None:
    assert compare.build(folders[:1], "t", "c")["curves"] == []


def test_the_order_of_folders_changes_nothing(folders: list[Path], comparison: Comparison) -> None:
    assert compare.build(folders[::-1], "A title", "sdbench report runs/tiny") == comparison


def test_a_folder_given_twice_counts_once(folders: list[Path]) -> None:
    assert len(compare.build([folders[1], folders[1]], "t", "c")["runs"]) == 1


def _edit_results(folder: Path, **changes: object) -> None:
    for path in folder.glob("eval/*/arithmetic-test/*/*/results.json"):
        write_json(path, {**read_json(path), **changes})


def _no_folder(root: Path) -> list[Path]:
    return [root / "absent"]


def _no_run(root: Path) -> list[Path]:
    (root / "empty").mkdir()
    return [root / "empty"]


def _not_evaluated(root: Path) -> list[Path]:
    write_run(root / "run", "grpo", 0, SMALL)
    shutil.rmtree(root / "run" / "eval")
    RunDir(root / "run").selection.unlink()
    return [root / "run"]


def _other_problems(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    write_run(root / "b", "critique", 0, SMALL)
    _edit_results(root / "b", problems_sha256="other")
    return [root / "a", root / "b"]


def _other_k(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    write_run(root / "b", "critique", 0, SMALL)
    _edit_results(root / "b", k=2)
    return [root / "a", root / "b"]


def _other_task(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    write_run(root / "b", "critique", 0, SMALL)
    _edit_results(root / "b", task="riddles")
    return [root / "a", root / "b"]


def _other_temperature(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    write_run(root / "b", "critique", 0, SMALL)
    _edit_results(root / "b", settings={"temperature": 0.6, "max_tokens": 96})
    return [root / "a", root / "b"]


def _last_checkpoint_with_other_cap(root: Path) -> list[Path]:
    """The folder's name decides the draws; these select an earlier checkpoint than the last."""
    run = root / "tiny" / "grpo" / "seed0"
    write_run(run, "grpo", 0, SMALL)
    chosen = read_json(run / "selection.json")
    assert chosen["selected"] != chosen["last"]
    for path in run.glob(f"eval/{chosen['last']}/arithmetic-test/*/*/results.json"):
        write_json(path, {**read_json(path), "settings": {"temperature": 1.0, "max_tokens": 8}})
    return [run]


def _same_run_twice(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    shutil.copytree(root / "a", root / "b")
    return [root / "a", root / "b"]


def _written_before(root: Path) -> list[Path]:
    write_run(root / "run", "grpo", 0, SMALL)
    for path in (root / "run").glob("eval/*/arithmetic-test/*/*/results.json"):
        rows = cast("dict[str, dict[str, object]]", read_json(path)["per_problem"])
        older = {p: {n: v for n, v in row.items() if n != "length"} for p, row in rows.items()}
        write_json(path, {**read_json(path), "per_problem": older})
    return [root / "run"]


def _model_not_evaluated(root: Path) -> list[Path]:
    write_model(root / "model", "Org/Model", 0.0, SMALL)
    shutil.rmtree(root / "model" / "eval")
    return [root / "model"]


def _no_manifest_keys(root: Path) -> list[Path]:
    write_json(root / "run" / "manifest.json", {"seed": 0})
    return [root / "run"]


def _no_folders(root: Path) -> list[Path]:
    return []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_no_folders, "no runs to compare"),
        (_no_folder, "no such folder"),
        (_no_run, "not a run folder"),
        (_no_manifest_keys, "'condition' is missing"),
        (_not_evaluated, "hint: run `sdbench eval"),
        (_other_problems, "different problem sets"),
        (_other_k, "allowed: one k in"),
        (_other_task, "allowed: one task in"),
        (_other_temperature, "allowed: one temperature in"),
        (_last_checkpoint_with_other_cap, "max_tokens = 8, "),
        (_same_run_twice, "both hold grpo seed 0"),
        (_written_before, "no 'length' for problem 'arithmetic-test-000'"),
        (_model_not_evaluated, "hint: run `sdbench eval Org/Model`"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    make: Callable[[Path], list[Path]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        compare.build(make(tmp_path), "t", "c")
    assert "\n" not in str(caught.value)


def test_an_arm_that_only_one_suite_has_is_no_difference(tmp_path: Path) -> None:
    """One that both have and set differently is."""
    write_run(tmp_path / "a", "grpo", 0, SMALL)
    write_run(tmp_path / "b", "critique", 0, SMALL)
    for name, arms in (("a", {"grpo": {"group_size": 4}}), ("b", {"grpo": {}, "later": {}})):
        manifest = read_json(tmp_path / name / "manifest.json")
        manifest["suite"]["condition"] = arms  # type: ignore
        write_json(tmp_path / name / "manifest.json", manifest)
    found = compare.build([tmp_path / "a", tmp_path / "b"], "t", "c")
    assert found["provenance"]["differing"] == ["condition.grpo.group_size"]


def test_suites_that_differ_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "grpo", 0, SMALL)
    write_run(tmp_path / "b", "critique", 0, SMALL)
    manifest = read_json(tmp_path / "b" / "manifest.json")
    manifest["suite"]["train"]["learning_rate"] = 0.5  # type: ignore
    write_json(tmp_path / "b" / "manifest.json", manifest)
    found = compare.build([tmp_path / "a", tmp_path / "b"], "t", "c")
    assert found["provenance"]["differing"] == ["train.learning_rate"]


def test_a_report_needs_results_only(folders: list[Path], tmp_path: Path) -> None:
    """Samples and verdicts are large and may be gone; nothing of them is read."""
    shutil.copytree(folders[1], tmp_path / "run")
    for path in [*(tmp_path / "run").rglob("samples.jsonl"), *tmp_path.rglob("verdicts.jsonl")]:
        path.unlink()
    assert compare.build([tmp_path / "run"], "t", "c") == compare.build([folders[1]], "t", "c")


def _scoring(run: Path, name: str, value: float, age: int) -> None:
    """Another scoring of the same samples, whose Avg@4 says which it is."""
    held = next(run.glob("eval/*/arithmetic-test/*/k4/results.json"))
    results = read_json(held)
    metrics = cast("dict[str, dict[str, float]]", results["metrics"])
    metrics["avg@4"]["value"] = value
    other = held.parent.parent / name / "results.json"
    write_json(other, results)
    os.utime(other, (age, age))


def _shown(folder: Path) -> float:
    return compare.build([folder], "t", "c")["runs"][0]["metrics"]["test"]["avg@4"]["value"]


def test_the_newest_whole_scoring_is_taken_and_a_trial_only_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    """Avg@4 is set to .1 in an old whole one, .2 in a newer one, .3 in the newest, a trial."""
    run = write_model(tmp_path / "model", "M", 0.0, SMALL)
    _scoring(run, "k4-old", 0.1, 1_000)
    _scoring(run, "k4-first3", 0.3, 3_000_000_000)
    _scoring(run, "k4", 0.2, 2_000_000_000)
    assert _shown(run) == 0.2
    assert not compare.build([run], "t", "c")["trial"]
    for name in ("k4", "k4-old"):
        shutil.rmtree(next(run.glob(f"eval/*/*/*/{name}")))
    assert _shown(run) == 0.3
    found = compare.build([run], "t", "c")
    assert found["trial"] and found["headline"][-1] == wording.TRIAL


def test_another_task_of_the_same_runs_can_be_compared(tmp_path: Path) -> None:
    run = write_model(tmp_path / "model", "M", 0.0, SMALL)
    write_model(tmp_path / "other", "M", 1.0, replace(SMALL, task="riddles", problems=7))
    shutil.copytree(tmp_path / "other" / "eval", run / "eval", dirs_exist_ok=True)
    assert compare.build([run], "t", "c")["task"] == "arithmetic"
    found = compare.build([run], "t", "c", task="riddles")
    assert found["task"] == "riddles"
    assert found["leaderboard"][0]["selected"]["avg@4"]["problems"] == 7
    with pytest.raises(DataError, match=r"'gsm8k'; evaluated: arithmetic, riddles$"):
        compare.build([run], "t", "c", task="gsm8k")


def test_on_another_task_curves_and_advantages_of_the_own_one_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "critique", 0, SMALL)
    for folder in list((tmp_path / "run" / "eval").glob("*/arithmetic-test")):
        shutil.copytree(folder, folder.with_name("riddles-test"))
    for path in (tmp_path / "run" / "eval").glob("*/riddles-test/*/*/results.json"):
        write_json(path, {**read_json(path), "task": "riddles"})
    found = compare.build([tmp_path / "run"], "t", "c", task="riddles")
    assert found["curves"] == [] and found["advantages"] == [] and found["examples"] == []
    assert wording.selection(found) == "Checkpoints were selected on arithmetic, not on riddles."


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A trained condition, two models that were not trained here, and the suite's own."""
    root = tmp_path_factory.mktemp("mixed")
    runs = write_suite(root, ("critique",), SMALL)
    models = [write_model(root / name, name, 0.3, SMALL) for name in ("Tiny-1B", "Able-7B")]
    return compare.build([*models, *runs], "t", "c")


def test_models_that_were_not_trained_compare_beside_runs_and_come_second(
    mixed: Comparison,
) -> None:
    assert [(pair["first"], pair["second"]) for pair in mixed["pairs"]] == [
        ("critique", "Able-7B"),
        ("critique", "Tiny-1B"),
        ("critique", "base"),
        ("Able-7B", "Tiny-1B"),
        ("Able-7B", "base"),
        ("Tiny-1B", "base"),
    ]
    trained = {row["condition"] for row in mixed["leaderboard"] if row["trained"]}
    assert trained == {"critique"} == {row["condition"] for row in mixed["ledger"]}
    assert mixed["provenance"]["differing"] == [] and mixed["suite"] == "tiny"


def test_the_headline_tells_gains_from_models_as_they_are(mixed: Comparison) -> None:
    opened = [sentence.partition(",")[0] for sentence in mixed["headline"]]
    assert opened == ["Avg@4 on test", wording.GAINS, wording.AS_THEY_ARE, wording.MODELS]
    assert wording.question(mixed).startswith("1 training condition and 3 untrained models on 13")


def test_one_model_alone_is_told_with_both_intervals(tmp_path: Path) -> None:
    """Two problems of four samples, 2 and 4 right: Avg@4 is .75.

    Over problems: standard error sqrt((.25^2 + .25^2) / 2) = .25, t interval far beyond [0, 1].
    Over these: sqrt(.5 * .5 / 3) / 2 = .1443, so .75 -+ 1.96 * .1443 = [.4671, 1.0329].
    """
    run = write_model(tmp_path / "model", "M", 0.0, replace(SMALL, problems=2))
    path = next(run.glob("eval/*/*/*/*/results.json"))
    rows = cast("dict[str, dict[str, object]]", read_json(path)["per_problem"])
    for row, correct in zip(rows.values(), ([1, 0, 1, 0], [1, 1, 1, 1]), strict=True):
        row.update(avg=sum(correct) / 4, correct=correct)
    summary = summarise(cast(Row, rows), 4)
    write_json(path, {**read_json(path), **summary})
    found = compare.build([run], "t", "c")
    score = found["leaderboard"][0]["selected"]["avg@4"]
    assert score["value"] == 0.75 and score["standard_error"] == pytest.approx(0.25)
    assert score["these_problems_standard_error"] == pytest.approx(0.14434, abs=1e-5)
    assert score["these_problems"] == pytest.approx({"low": 0.4671, "high": 1.0329}, abs=1e-4)
    assert found["headline"] == [
        "Avg@4 of M is 75.0\u00a0% over 2 problems of the test set.",
        "95 % intervals: [0.0, 100.0] with other problems of this kind, and [46.7, 100.0] with "
        "these very problems sampled again.",
        "There is one model only, so nothing is compared.",
    ]
    assert found["pairs"] == [] and found["curves"] == [] and found["ledger"] == []
    assert wording.selection(found) == wording.NOTHING_TRAINED and found["suite"] == ""


CROSSED = replace(SMALL, cross_fit=True)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    root = tmp_path_factory.mktemp("crossed") / "run"
    write_run(root, "critique", 0, CROSSED)
    return root, compare.build([root], "t", "c")


def test_cross_fitting_is_read_from_its_own_results(crossed: tuple[Path, Comparison]) -> None:
    root, found = crossed
    halves = read_json(root / "selection.json")["halves"]
    assert found["runs"][0]["checkpoint"] == {
        "selected": "cross-fit",
        "last": "000060",
        "halves": halves,
    }
    fitted = read_json(next((root / "eval" / "cross-fit").glob("*/halves/k4/results.json")))
    assert found["runs"][0]["metrics"]["test"] == fitted["metrics"]
    assert found["runs"][0]["metrics"]["validation"] == {}


def test_cross_fitting_costs_the_mean_of_both_halves(tmp_path: Path) -> None:
    """Critique draws 32 completions an update; 20 and 50 updates are 32 * 35 = 1120."""
    write_run(tmp_path / "run", "critique", 0, CROSSED)
    path = tmp_path / "run" / "selection.json"
    write_json(path, {**read_json(path), "halves": ["000020", "000050"]})
    found = compare.build([tmp_path / "run"], "t", "c")
    assert found["ledger"][0]["completions_selected"] == pytest.approx(1120)
    assert found["curves"][0]["split"] == "test"
    assert found["curves"][0]["seeds"][0]["selected"] == [20, 50]
    assert all(point["low"] is not None for point in found["curves"][0]["mean"])


def test_curves_over_samples_are_means_over_seeds_problem_by_problem(
    folders: list[Path], comparison: Comparison
) -> None:
    """At m = 1 both curves are Avg@k, at m = k they are the leaderboard's Pass@k and Maj@k."""
    assert [one["condition"] for one in comparison["scaling"]] == ["critique", "grpo", "base"]
    rows = {row["condition"]: row["selected"] for row in comparison["leaderboard"]}
    for one in comparison["scaling"]:
        scores = rows[one["condition"]]
        for name, curve in (("pass", one["passed"]), ("maj", one["majority"])):
            assert [point["m"] for point in curve] == [1, 2, 3, 4]
            for point, metric in ((curve[0], "avg@4"), (curve[-1], f"{name}@4")):
                assert point["value"] == pytest.approx(scores[metric]["value"])
                assert point["low"] == pytest.approx(scores[metric]["low"])
        values = [point["value"] for point in one["passed"]]
        assert values == sorted(values)


def _results(run: Path, outcomes: list[list[int]], **shares: float) -> None:
    """Sets the outcomes of a model's problems, and the same shares by ending for all of them."""
    path = next(run.glob("eval/*/*/*/*/results.json"))
    rows = cast("dict[str, dict[str, object]]", read_json(path)["per_problem"])
    for row, correct in zip(rows.values(), outcomes, strict=True):
        row.update(avg=fmean(correct), correct=correct, **shares)
    write_json(path, {**read_json(path), **summarise(cast(Row, rows), len(outcomes[0]))})


def _two(root: Path, first: list[list[int]], second: list[list[int]]) -> Pair:
    shape = replace(SMALL, problems=len(first), k=len(first[0]))
    runs = [write_model(root / name, name, 0.0, shape) for name in ("A", "B")]
    for run, outcomes in zip(runs, (first, second), strict=True):
        _results(run, outcomes)
    return compare.build(runs, "t", "c")["pairs"][0]


def test_problems_won_lost_and_tied_are_counted(tmp_path: Path) -> None:
    """Scores .5 against 0, 0 against 1, and .5 against .5 twice."""
    pair = _two(tmp_path, [[1, 0], [0, 0], [1, 0], [0, 1]], [[0, 0], [1, 1], [0, 1], [1, 0]])
    assert pair["flips"] == {"won": 1, "lost": 1, "tied": 2}


def test_problems_needed_and_what_more_samples_would_save(tmp_path: Path) -> None:
    """Four problems, two samples; differences 1, 0, 0 and 0.

    Mean .25, variance over problems (.75^2 + 3 * .25^2) / 3 = .25. One problem of the first has
    samples 1 and 0, variance of one sample .25 / (2 - 1) * 2 = .5, over four problems .125; the
    second has the same; noise (.125 + .125) / 2 = .125 is half of the variance seen. Twice the
    samples leave .125 + .0625 = .1875. (1.95996 + .84162)^2 = 7.84888, so 2 points take
    7.84888 * .25 / .0004 = 4905.5 problems, 5 points 784.9; with .1875 it is 3679.2 and 588.7.
    """
    pair = _two(tmp_path, [[1, 1], [1, 0], [0, 0], [1, 1]], [[0, 0], [1, 0], [0, 0], [1, 1]])
    assert pair["sampling_share"] == pytest.approx(0.5)
    assert pair["needed"] == [
        {"points": 2, "problems": 4906, "doubled": 3680},
        {"points": 5, "problems": 785, "doubled": 589},
    ]


def test_one_sample_a_problem_says_nothing_of_more(tmp_path: Path) -> None:
    pair = _two(tmp_path, [[1], [1], [0]], [[0], [1], [0]])
    assert pair["sampling_share"] is None
    assert [one["doubled"] for one in pair["needed"]] == [None, None]


def test_noise_is_at_most_all_of_the_variance(tmp_path: Path) -> None:
    """Equal scores of .5 everywhere but one .5 against 0: far less spread than the noise alone."""
    pair = _two(tmp_path, [[1, 0]] * 5, [[0, 1]] * 4 + [[0, 0]])
    assert pair["sampling_share"] == 1.0
    for one in pair["needed"]:
        assert one["doubled"] == pytest.approx(one["problems"] / 2, abs=1)


def test_endings_sum_to_one_and_leave_out_the_truncated(tmp_path: Path) -> None:
    """Half right and .2 truncated: wrong is 1 - .5 - .2 - .05 - .05 = .2; .5 of .8 is .625."""
    run = write_model(tmp_path / "model", "M", 0.0, replace(SMALL, problems=3))
    shares = {"truncated": 0.2, "unparsable": 0.05, "timeout": 0.05, "length": 80.0}
    _results(run, [[1, 1, 0, 0]] * 3, **shares)
    found = compare.build([run], "t", "c")["endings"][0]
    assert found["wrong"] == pytest.approx(0.2) and found["length"] == 80.0
    assert found["untruncated_avg"] == pytest.approx(0.625)
    _results(run, [[0, 0, 0, 0]] * 3, truncated=1.0, unparsable=0.0, timeout=0.0)
    assert compare.build([run], "t", "c")["endings"][0]["untruncated_avg"] is None


def test_every_condition_has_endings_that_sum_to_one(comparison: Comparison) -> None:
    assert [one["condition"] for one in comparison["endings"]] == ["critique", "grpo", "base"]
    for one in comparison["endings"]:
        shares = (one["correct"], one["wrong"], one["truncated"], one["unparsable"], one["timeout"])
        assert sum(shares) == pytest.approx(1)
        assert min(shares) >= 0 and one["truncated"] + one["unparsable"] > 0


def _pair(difference: float, *, survives: bool, seeds: tuple[float, float] | None = None) -> Pair:
    return {
        "first": "critique",
        "second": "grpo",
        "difference": difference,
        "standard_error": 0.01,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "bootstrap": None,
        "seeds": {"low": seeds[0], "high": seeds[1]} if seeds else None,
        "p": 0.01,
        "p_holm": 0.03,
        "minimum_detectable": 0.028,
        "sampling_share": None,
        "needed": [],
        "flips": {"won": 1, "lost": 1, "tied": 38},
        "problems": 40,
        "survives": survives,
        "verdict": "",
    }


def test_verdicts_follow_the_sign_not_the_names() -> None:
    assert wording.verdict(_pair(0.05, survives=True)) == "critique is above grpo."
    assert wording.verdict(_pair(-0.05, survives=True)) == "grpo is above critique."


def test_a_verdict_says_when_new_seeds_may_undo_it() -> None:
    assert "new ones may undo it" in wording.verdict(_pair(0.05, survives=True, seeds=(-0.01, 0.1)))
    assert "undo" not in wording.verdict(_pair(0.05, survives=True, seeds=(0.01, 0.1)))


def test_no_difference_shown_names_what_would_stay_hidden() -> None:
    said = wording.verdict(_pair(0.01, survives=False))
    assert said == "No difference shown; one below 2.8 points would likely stay hidden."


def test_the_headline_says_what_seeds_leave_open(comparison: Comparison) -> None:
    rows = comparison["leaderboard"]
    shaky = [_pair(0.05, survives=True, seeds=(-0.01, 0.1))]
    firm = [_pair(0.05, survives=True, seeds=(0.01, 0.1))]
    assert wording.headline(rows, shaky, 4)[-1].startswith("New training seeds may undo")
    assert not any("seed" in sentence for sentence in wording.headline(rows, firm, 4))
    once = [{**row, "seeds": [0]} for row in rows]
    assert "trained once" in wording.headline(once, firm, 4)[-1]  # type: ignore[arg-type]


def test_the_headline_does_not_claim_what_did_not_survive(comparison: Comparison) -> None:
    said = wording.headline(comparison["leaderboard"], [_pair(0.01, survives=False)], 4)
    assert said[1] == (
        "Between conditions, no difference survives Holm's correction: critique and grpo (+1.0)."
    )


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (wording.percent, 0.2543, "25.4\u00a0%"),
        (wording.percent, None, "\u2013"),
        (wording.points, -0.042, "\u22124.2"),
        (wording.points, -0.0004, "0.0"),
        (wording.points, 0.042, "+4.2"),
        (wording.p_value, 0.0004, "<\u00a00.001"),
        (wording.p_value, 0.0126, "0.013"),
        (wording.number, 1234567.0, "1,234,567"),
        (wording.percent_tick, 0.025, "2.5\u00a0%"),
        (wording.tick, -0.25, "\u22120.25"),
    ],
)
def test_numbers_in_words(
    write: Callable[[float | None], str], value: float | None, expected: str
) -> None:
    assert write(value) == expected


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1))
def test_lists_in_words_name_everything(items: list[str]) -> None:
    said = wording.listed(items)
    assert said.replace(" and ", ", ").split(", ") == items
