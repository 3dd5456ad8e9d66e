"""Run folders to a comparison: what is read, what is averaged, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import Shape, write_run, write_suite

from sdbench import stats
from sdbench.errors import DataError
from sdbench.report import compare, wording
from sdbench.report.schema import Comparison, Pair
from sdbench.rundir import RunDir, read_json, write_json

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
    assert comparison["runs"][-1]["checkpoint"] == {"selected": "000000", "last": "000000"}
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
            results = next((folder / "eval" / str(selected)).glob("arithmetic-test/*/results.json"))
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
        path = next((tmp_path / "run" / "eval" / str(label)).glob("arithmetic-test/*/results.json"))
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
    for path in folder.glob("eval/*/arithmetic-test/*/results.json"):
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
    for path in run.glob(f"eval/{chosen['last']}/arithmetic-test/*/results.json"):
        write_json(path, {**read_json(path), "settings": {"temperature": 1.0, "max_tokens": 8}})
    return [run]


def _same_run_twice(root: Path) -> list[Path]:
    write_run(root / "a", "grpo", 0, SMALL)
    shutil.copytree(root / "a", root / "b")
    return [root / "a", root / "b"]


def _samples_gone(root: Path) -> list[Path]:
    write_run(root / "run", "grpo", 0, SMALL)
    for path in (root / "run").glob("eval/*/arithmetic-test/*/samples.jsonl"):
        path.unlink()
    return [root / "run"]


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
        (_samples_gone, "samples.jsonl"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    make: Callable[[Path], list[Path]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        compare.build(make(tmp_path), "t", "c")
    assert "\n" not in str(caught.value)


def test_suites_that_differ_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "grpo", 0, SMALL)
    write_run(tmp_path / "b", "critique", 0, SMALL)
    manifest = read_json(tmp_path / "b" / "manifest.json")
    manifest["suite"]["train"]["learning_rate"] = 0.5  # type: ignore
    write_json(tmp_path / "b" / "manifest.json", manifest)
    found = compare.build([tmp_path / "a", tmp_path / "b"], "t", "c")
    assert found["provenance"]["differing"] == ["train.learning_rate"]


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
