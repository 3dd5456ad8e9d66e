"""The command line. Bodies are short and import what they run, so `--help` is quick.

Data goes to stdout, as tables or with `--json` as JSON; progress goes to stderr. A user's mistake
gives one line and exit code 2; a bug gives a traceback and exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdbench import __version__
from sdbench.errors import ConfigError, DataError, SdbenchError

if TYPE_CHECKING:
    from sdbench.config import Suite
    from sdbench.evaluate.evaluation import Plan
    from sdbench.report.schema import Comparison
    from sdbench.rundir import Row

# typer carries its own click and exports no name for the base of its usage errors.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="What does feedback do to self-distillation? Train, evaluate, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
organism_app = typer.Typer(
    help="The tiny solver that ships with the package.", no_args_is_help=True
)
app.add_typer(organism_app, name="organism")

SuiteOption = Annotated[str, typer.Option("--suite", help="A suite that ships, or a TOML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Overrides a key of the suite."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Prints the result as JSON on stdout.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write.")]


class Listing(StrEnum):
    """What `sdbench list` can list."""

    CONDITIONS = "conditions"
    CRITICS = "critics"
    LOSSES = "losses"
    ENGINES = "engines"
    TASKS = "tasks"
    SUITES = "suites"


def main() -> None:
    """Entry point: runs the command and turns mistakes into one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except SdbenchError as error:
        _fail(str(error))
    except UsageError as error:
        _fail(str(error) or "incomplete command (hint: add --help)")
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Prints the version.")] = False,
) -> None:
    if version:
        print(f"sdbench {__version__}")
        raise typer.Exit()


@app.command("train")
def train_command(
    condition: Annotated[str, typer.Option(help="What feedback to train on.")],
    suite: SuiteOption = "tiny",
    seed: Annotated[int, typer.Option(help="Of data order and rollouts.")] = 0,
    overrides: SetOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trains one condition; run again after a kill, it continues.

    The run folder is --out, by default runs/SUITE/CONDITION/seedN.
    """
    from sdbench import live
    from sdbench.conditions.base import resolve
    from sdbench.config import load_suite
    from sdbench.suite import run_folder
    from sdbench.train.loop import train

    resolved = load_suite(suite, overrides or [])
    resolve(resolved, condition)
    folder = out or run_folder(Path("runs"), resolved, condition, seed)
    _quiet_libraries()
    before = 0
    with live.bar(f"{condition} seed {seed}", resolved.train.updates) as advance:

        def updated(update: int, log: Row) -> None:
            nonlocal before
            advance(update - before, live.note(log))
            before = update

        run = train(resolved, condition, seed, folder, updated)
    newest = run.saved_checkpoints()[-1]
    ledger = run.read_manifest()["ledger"]
    _print(
        {"run": str(run.root), "checkpoint": str(newest), "ledger": ledger},
        f"{run.root}: {newest.name} is its last checkpoint\nnext: sdbench eval {run.root} --k 12",
        as_json,
    )


@app.command("eval")
def eval_command(
    path: Annotated[
        str, typer.Argument(help="A run folder, a checkpoint, a model folder, a hub id.")
    ],
    k: Annotated[
        int | None, typer.Option(help="Samples a problem; the suite's by default.")
    ] = None,
    suite: SuiteOption = "tiny",
    split: Annotated[
        str, typer.Option(help="Of a single checkpoint: validation or test.")
    ] = "test",
    limit: Annotated[int | None, typer.Option(help="Takes the first so many problems.")] = None,
    overrides: SetOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Samples, grades and scores checkpoints; what is on disk is not sampled again.

    A run folder gets all checkpoints on validation, then the selected and the last on test.
    """
    _at_least_one("k", k)
    _at_least_one("limit", limit)
    _quiet_libraries()
    if Path(path, "manifest.json").is_file():
        if out or overrides or limit or suite != "tiny" or split != "test":
            raise ConfigError(
                "a run folder is evaluated by its own suite, into itself; allowed with it: --k, --json",
                hint="give one of its checkpoints/ to use other options",
            )
        _eval_run(Path(path), k, as_json)
    else:
        _eval_checkpoint(path, k, _Choice(suite, overrides or [], split, limit, out), as_json)


@app.command("report")
def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    out: OutOption = None,
    title: Annotated[str | None, typer.Option(help="The report's title.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compares evaluated runs: index.html, report.md, comparison.json, leaderboard.csv."""
    from sdbench.report import compare, render

    folders = [folder for path in runs for folder in _run_folders(path)]
    target = out or Path("reports") / "latest"
    command = " ".join(["sdbench", *sys.argv[1:]])
    comparison = compare.build(folders, title or _title(folders[0]), command)
    render.write(comparison, target)
    _print_comparison(comparison, target, as_json)


@app.command("bench")
def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite that ships, or a TOML file.")],
    conditions: Annotated[
        str | None, typer.Option(help="Comma-separated; by default all of the suite.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, ...")] = 3,
    jobs: Annotated[
        int | None, typer.Option(help="Runs side by side; by default as cores allow.")
    ] = None,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs go.")] = Path(
        "runs"
    ),
    report: Annotated[Path | None, typer.Option(help="Where the report goes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Trains, evaluates and reports the whole matrix of a suite, skipping what is done."""
    from sdbench import live
    from sdbench.config import load_suite
    from sdbench.report import compare, render
    from sdbench.suite import cells, default_jobs, run_matrix

    _at_least_one("seeds", seeds)
    _at_least_one("jobs", jobs)
    resolved = load_suite(suite, overrides or [])
    arms = _arms(resolved, conditions)
    matrix = cells(resolved, arms, range(seeds), out)
    _quiet_libraries()
    with live.matrix(resolved, matrix) as news:
        run_matrix(resolved, matrix, jobs or default_jobs(resolved), news)
    target = report or out / resolved.name / "report"
    command = " ".join(["sdbench", *sys.argv[1:]])
    comparison = compare.build([cell.folder for cell in matrix], resolved.title, command)
    render.write(comparison, target)
    _print_comparison(comparison, target, as_json)


@app.command("list")
def list_command(
    what: Annotated[Listing, typer.Argument(help="What to list.")], as_json: JsonOption = False
) -> None:
    """Lists what there is, with a line on each."""
    rows = _listing(what)
    width = max(map(len, rows), default=0)
    _print(rows, "\n".join(f"{name:<{width}}  {about}" for name, about in rows.items()), as_json)


@organism_app.command("pretrain")
def pretrain_command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="An absent or empty folder.")],
    seed: Annotated[int, typer.Option(help="Of weights, corpus and order.")] = 1,
    updates: Annotated[int, typer.Option(help="Optimiser updates.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Makes the tiny solver's weights again from nothing.

    With the defaults, on the same kind of machine and versions, they equal those that ship.
    """
    from sdbench import live, models

    _at_least_one("updates", updates)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; allowed: an absent or empty one")
    _quiet_libraries()
    from sdbench.organism.pretrain import Recipe, pretrain

    with live.bar("organism", updates) as advance:
        pretrain(
            out, Recipe(seed=seed, updates=updates), lambda _, loss: advance(1, f"loss {loss:.3f}")
        )
    made, shipped = (
        models.fingerprint(str(out)),
        models.fingerprint(models.source_of(models.ORGANISM)),
    )
    same = "equal to" if made == shipped else "other than"
    _print(
        {"model": str(out), "sha256": made, "shipped_sha256": shipped},
        f"{out}: weights {made}, {same} the shipped {shipped}",
        as_json,
    )


class _Choice:
    """Options of `sdbench eval` for a single model."""

    def __init__(
        self, suite: str, overrides: Sequence[str], split: str, limit: int | None, out: Path | None
    ) -> None:
        self.suite, self.overrides, self.split = suite, overrides, split
        self.limit, self.out = limit, out


def _eval_run(root: Path, k: int | None, as_json: bool) -> None:
    from sdbench import live
    from sdbench.config import Suite, validate
    from sdbench.evaluate.evaluation import evaluate_run, read_results, samples_wanted
    from sdbench.grading import Grader
    from sdbench.rundir import RunDir
    from sdbench.suite import analyse_run

    run = RunDir(root)
    manifest = run.read_manifest()
    suite = validate(Suite, manifest["suite"], str(run.manifest))
    wanted = samples_wanted(suite, len(run.saved_checkpoints()), k)
    with Grader() as grader, live.bar("samples", wanted) as advance:
        chosen = evaluate_run(run, suite, grader, lambda done: advance(done, ""), k)
        analyse_run(suite, str(manifest["condition"]), run, grader)
    results = {
        label: read_results(run, label, suite.task, "test")
        for label in dict.fromkeys((chosen.selected, chosen.last))
    }
    named = {
        f"test, update {label}{' (selected)' if label == chosen.selected else ' (last)'}": row
        for label, row in results.items()
        if row is not None
    }
    _print(
        {"run": str(root), "selection": chosen.as_row(), "test": results},
        "\n".join(_metric_lines(named)) + f"\nnext: sdbench report {root}",
        as_json,
    )


def _eval_checkpoint(path: str, k: int | None, choice: _Choice, as_json: bool) -> None:
    from sdbench import live, problems
    from sdbench.evaluate.evaluation import evaluate
    from sdbench.grading import Grader

    plan = _checkpoint_plan(path, k, choice)
    count = len(problems.load(plan.task, plan.split, plan.problems))
    with Grader() as grader, live.bar("samples", count * plan.k) as advance:
        results = evaluate(plan, grader, lambda done: advance(done, ""))
    lines = _metric_lines({f"{plan.task}, {plan.split}, {count} problems": results})
    _print(results, "\n".join([*lines, f"results: {plan.folder}"]), as_json)


def _checkpoint_plan(path: str, k: int | None, choice: _Choice) -> Plan:
    from dataclasses import replace

    from sdbench.config import Suite, load_suite, validate
    from sdbench.evaluate.evaluation import checkpoint_plan
    from sdbench.rundir import RunDir

    run = RunDir(Path(path).resolve().parent.parent)
    if Path(path).is_dir() and run.manifest.is_file() and not choice.overrides:
        suite = validate(Suite, run.read_manifest()["suite"], str(run.manifest))
        root, label = choice.out or run.root, Path(path).resolve().name
    else:
        suite = load_suite(choice.suite, choice.overrides)
        label = Path(path).name or path
        root = choice.out or Path("runs") / "models" / path.strip("./").replace("/", "--")
    plan = checkpoint_plan(suite, root, label, path, choice.split, k)
    if choice.limit is None:
        return plan
    return replace(plan, problems=choice.limit, suffix=f"-first{choice.limit}")


def _arms(suite: Suite, conditions: str | None) -> list[str]:
    from sdbench.conditions.base import names, resolve

    arms = conditions.split(",") if conditions else list(suite.condition) or names(suite)
    for arm in arms:
        resolve(suite, arm)
    return list(dict.fromkeys(arms))


def _run_folders(path: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs below it."""
    if not path.is_dir():
        raise DataError(f"no such folder: {path}; allowed: run folders and folders that hold some")
    if (path / "manifest.json").is_file():
        return [path]
    found = sorted(manifest.parent for manifest in path.rglob("manifest.json"))
    if not found:
        raise DataError(
            f"{path} holds no run: no manifest.json in it or below",
            hint="give folders that `sdbench train` or `sdbench bench` wrote",
        )
    return found


def _title(run: Path) -> str:
    from sdbench.rundir import RunDir

    suite = RunDir(run).read_manifest().get("suite")
    return str(suite["title"]) if isinstance(suite, dict) and "title" in suite else run.name


def _listing(what: Listing) -> dict[str, str]:
    from sdbench import config, plugins, problems

    if what is Listing.SUITES:
        return {name: config.load_suite(name).title for name in config.suite_names()}
    if what is Listing.TASKS:
        return {name: problems.summary(name) for name in problems.names()}
    kind = plugins.Kind(what.value)
    return {name: plugins.summary(kind, name) for name in plugins.names(kind)}


def _metric_lines(named: Mapping[str, Row]) -> list[str]:
    from sdbench.evaluate.score import metric_of

    lines = []
    for title, results in named.items():
        metrics = results["metrics"]
        assert isinstance(metrics, dict), "results.json holds a table of metrics"
        lines.append(title)
        for name in metrics:
            metric = metric_of(results, name)
            scale, unit = (1.0, " tokens") if name == "length" else (100.0, " %")
            span = ""
            if metric.low is not None and metric.high is not None:
                top = float("inf") if name == "length" else 100.0
                low, high = max(0.0, metric.low * scale), min(top, metric.high * scale)
                span = f"  [{low:.1f}, {high:.1f}]"
            lines.append(f"  {name:<20}{metric.value * scale:6.1f}{unit}{span}")
    return lines


def _print_comparison(comparison: Comparison, target: Path, as_json: bool) -> None:
    from sdbench.report.terminal import print_leaderboard

    if as_json:
        print(json.dumps(comparison, ensure_ascii=False))
        return
    print_leaderboard(comparison)
    print(f"report: {(target / 'index.html').resolve()}")


def _print(value: Mapping[str, object], text: str, as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else text)


def _at_least_one(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"--{option} {value}: allowed are whole numbers from 1")


def _quiet_libraries() -> None:
    """Keeps the libraries' own progress bars and notices out of the terminal."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
