"""The command line. Bodies are short and import what they run, so `--help` is quick.

Data goes to stdout, as tables or with `--json` as JSON; progress goes to stderr. A user's mistake
gives one line and exit code 2; a bug gives a traceback and exit code 1.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from sdbench import __version__
from sdbench.bench_group import SUITE, BenchGroup
from sdbench.curate.command import app as data_app
from sdbench.errors import ConfigError, DataError, SdbenchError, Stopped

if TYPE_CHECKING:
    from sdbench.config import Suite
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
bench_app = typer.Typer(
    cls=BenchGroup,
    help="Trains, evaluates and reports the whole matrix of a suite, skipping what is done.",
)
app.add_typer(bench_app, name="bench")
app.add_typer(
    data_app,
    name="data",
    help="Filters, splits and compares problems.",
    callback=lambda: _quiet_libraries(),
)

SuiteOption = Annotated[str, typer.Option("--suite", help="A suite that ships, or a TOML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Overrides a key of the suite."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Prints the result as JSON on stdout.")]
CorrectOnly = Annotated[
    bool, typer.Option("--correct-only", help="Trains on rollouts with a right answer alone.")
]
IncorrectOnly = Annotated[
    bool, typer.Option("--incorrect-only", help="Trains on rollouts with a wrong answer alone.")
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="CONDITION",
        help="Compares each condition with this one; by default all pairs.",
    ),
]
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
    # Chunks of logits are made and freed all the time; in huge pages that costs a fraction. Torch
    # reads this when it is loaded.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        code = app(standalone_mode=False)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":  # all processes of a run stop together
            print(stopped, file=sys.stderr)
        sys.exit(143)  # as a shell says of a process that SIGTERM ended
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
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; the suite's by default.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Has torch compile the network.")
    ] = False,
    correct_only: CorrectOnly = False,
    incorrect_only: IncorrectOnly = False,
    overrides: SetOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trains one condition; run again after a kill, it continues.

    The run folder is --out, by default runs/SUITE/CONDITION/seedN; --correct-only and
    --incorrect-only make another arm of the condition, with folders of its own. Several processes,
    each with its share of an update's problems: accelerate launch --num_processes N .venv/bin/sdbench
    train ...
    """
    from sdbench.conditions.base import resolve
    from sdbench.config import load_suite
    from sdbench.dashboard import dashboard
    from sdbench.rundir import critique_store
    from sdbench.suite import run_folder
    from sdbench.train.loop import train
    from sdbench.train.processes import open_state

    changes = [*(overrides or [])]
    changes += [f'dtype="{dtype}"'] if dtype else []
    changes += ["train.compile=true"] if compiled else []
    resolved = load_suite(suite, changes)
    resolve(resolved, condition)
    resolved, (condition,) = _restricted(
        resolved, [condition], correct_only=correct_only, incorrect_only=incorrect_only
    )
    folder = out or run_folder(Path("runs"), resolved, condition, seed)
    _quiet_libraries()
    first = open_state().is_main_process
    resolved = _warmed(resolved, Path("runs"), shows=first)
    command = shlex.join(["sdbench", *sys.argv[1:]])
    with dashboard(resolved, condition, seed) if first else nullcontext(_nothing) as updated:
        store = critique_store(Path("runs"))
        run = train(resolved, condition, seed, folder, updated, command, store)
    if not first:
        return
    newest = run.saved_checkpoints()[-1]
    ledger = run.read_manifest()["ledger"]
    _print(
        {"run": str(run.root), "checkpoint": str(newest), "ledger": ledger},
        f"{run.root}: {newest.name} is its last checkpoint\nnext: sdbench eval {run.root} --k 12",
        as_json,
    )


@app.command("eval")
def eval_command(
    paths: Annotated[
        list[str],
        typer.Argument(help="Run folders, checkpoints, model or adapter folders, hub ids."),
    ],
    k: Annotated[
        int | None, typer.Option(help="Samples a problem; the suite's by default.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Comma-separated; the suite's by default. See `sdbench list tasks`."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="A suite that ships, or a TOML file; by default the run's, else tiny."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a single model: validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Takes the first so many problems.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="hf, vllm, server, or auto: vllm where it is there and worth it."),
    ] = None,
    engine_options: Annotated[
        list[str] | None,
        typer.Option("--engine-option", metavar="KEY=VALUE", help="Of the engine; repeatable."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the draws; the suite's or the task's by default.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Token cap; likewise.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    overrides: SetOption = None,
    out: OutOption = None,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Scores stored samples again; samples nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Samples, grades and scores checkpoints; what is on disk is not sampled again.

    A run folder gets all checkpoints on validation, then the selected and the last on test.
    """
    from sdbench import eval_command, live
    from sdbench.config import listed
    from sdbench.evaluate.sample import Engines
    from sdbench.grading import Grader

    _at_least_one("k", k)
    _at_least_one("limit", limit)
    _at_least_one("max-tokens", max_tokens)
    if temperature is not None and not 0 <= temperature <= 10:
        raise ConfigError(f"--temperature {temperature}: allowed are 0 to 10")
    _quiet_libraries()
    if regrade:
        with Grader() as grader:
            found = eval_command.regrade_all([Path(path) for path in paths], grader)
        _print(found.row, found.text, as_json)
        return
    choice = eval_command.Choice(
        suite=suite,
        overrides=tuple(overrides or ()),
        tasks=tuple(listed(tasks)),
        split=split,
        k=k,
        limit=limit,
        engine=engine,
        engine_options=tuple(engine_options or ()),
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        out=out,
    )
    jobs = [eval_command.prepare(path, choice) for path in paths]
    total = sum(job.samples for job in jobs)
    with Grader() as grader, Engines() as engines, live.bar("samples", total) as advance:
        found_all = [job.run(grader, engines, lambda done: advance(done, "")) for job in jobs]
    rows: list[Row] = [one.row for one in found_all]
    whole: Row = rows[0] if len(rows) == 1 else {"evaluations": [*rows]}
    _print(whole, "\n".join(one.text for one in found_all), as_json)


@app.command("critique")
def critique_command(
    path: Annotated[Path, typer.Argument(help="A run folder, or a JSONL file of attempts.")],
    critic: Annotated[
        str | None,
        typer.Option(help="Who writes critiques; by default those that are there are audited."),
    ] = None,
    critic_options: Annotated[
        list[str] | None,
        typer.Option("--critic-option", metavar="KEY=VALUE", help="Of the critic; repeatable."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Of a file's problems.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="With a file: whose prompts, model and engine the critic goes by."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Takes the first so many attempts.")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audits critiques: how faithful they are, and how often right; or has a critic write them.

    A row of a file holds prompt, answer and response, and may hold solution, critique, case and
    first_wrong_step. What a critic wrote is kept in runs/critiques, or beside the run's suite if
    `sdbench bench` keeps it there, and never asked for again.
    """
    from sdbench import critique_command, live
    from sdbench.critique_source import Choice
    from sdbench.grading import Grader

    _at_least_one("limit", limit)
    _quiet_libraries()
    choice = Choice(critic, tuple(critic_options or ()), task, suite, limit, out)
    with Grader() as grader:
        found = critique_command.run(
            path, choice, grader, lambda total: live.bar("critiques", total)
        )
    _print(found.row, found.text, as_json)


@app.command("grade")
def grade_command(
    file: Annotated[Path, typer.Argument(help="A JSONL file; - reads stdin.")],
    gold: Annotated[str, typer.Option(metavar="FIELD", help="Field with the right answer.")],
    response: Annotated[str, typer.Option(metavar="FIELD", help="Field with the response.")],
    timeout: Annotated[float, typer.Option(help="Seconds for one comparison by algebra.")] = 5.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Prints one JSON line for each row, in order.")
    ] = False,
) -> None:
    """Grades the responses in any JSONL file: one verdict a row."""
    from collections import Counter

    from sdbench.grading import Grader
    from sdbench.grading.rows import grade_rows
    from sdbench.rundir import parse_rows

    if timeout <= 0:
        raise ConfigError(f"--timeout {timeout}: allowed are seconds above 0")
    if str(file) != "-" and not file.is_file():
        raise DataError(f"no such file: {file}")
    counts: Counter[str] = Counter()
    with _lines(file) as lines, Grader(timeout_seconds=timeout) as grader:
        rows = parse_rows(lines, str(file))
        for row in grade_rows(rows, gold, response, grader, str(file)):
            counts[str(row["verdict"])] += 1
            if as_json:
                print(json.dumps(row, ensure_ascii=False), flush=True)
    if not as_json:
        total = counts.total()
        if not total:
            raise DataError(f"{file} holds no row")
        for name, count in counts.most_common():
            print(f"{name:<11}{count:>8}  {count / total:6.1%}")
        print(f"{'rows':<11}{total:>8}")


@app.command("report")
def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    out: OutOption = None,
    title: Annotated[str | None, typer.Option(help="The report's title.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Which task to compare, if runs were evaluated on several.")
    ] = None,
    against: AgainstOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compares evaluated runs: index.html, report.md, comparison.json, leaderboard.csv."""
    from sdbench.report import compare, render

    folders = [folder for path in runs for folder in _run_folders(path)]
    target = out or Path("reports") / "latest"
    command = shlex.join(["sdbench", *sys.argv[1:]])
    comparison = compare.build(folders, title or _title(folders[0]), command, task, against)
    render.write(comparison, target)
    _print_comparison(comparison, target, as_json)


@bench_app.command(SUITE)
def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite that ships, or a TOML file.")],
    conditions: Annotated[
        str | None, typer.Option(help="Comma-separated; by default all of the suite.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, ...")] = 3,
    correct_only: CorrectOnly = False,
    incorrect_only: IncorrectOnly = False,
    jobs: Annotated[
        int | None, typer.Option(help="Runs side by side; by default as cores allow.")
    ] = None,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs go.")] = Path(
        "runs"
    ),
    report: Annotated[Path | None, typer.Option(help="Where the report goes.")] = None,
    against: AgainstOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trains, evaluates and reports the whole matrix of a suite, skipping what is done."""
    from sdbench import live
    from sdbench.config import load_suite
    from sdbench.plugins import unknown
    from sdbench.report import compare, render
    from sdbench.suite import BASE, cells, default_jobs, run_matrix

    _at_least_one("seeds", seeds)
    _at_least_one("jobs", jobs)
    resolved = load_suite(suite, overrides or [])
    arms = _arms(resolved, conditions)
    resolved, arms = _restricted(
        resolved, arms, correct_only=correct_only, incorrect_only=incorrect_only
    )
    if against is not None and against not in (*arms, BASE):
        raise unknown("condition for --against", against, [*arms, BASE])
    matrix = cells(resolved, arms, range(seeds), out)
    _quiet_libraries()
    resolved = _warmed(resolved, out)
    with live.matrix(resolved, matrix) as news:
        run_matrix(resolved, matrix, jobs or default_jobs(resolved), news)
    target = report or out / resolved.name / "report"
    command = shlex.join(["sdbench", *sys.argv[1:]])
    folders = [cell.folder for cell in matrix]
    comparison = compare.build(folders, resolved.title, command, against=against)
    render.write(comparison, target)
    _print_comparison(comparison, target, as_json)


@bench_app.command("critics")
def bench_critics_command(
    critic: Annotated[str, typer.Option(help="Which; see `sdbench list critics`.")] = "oracle",
    options: Annotated[
        list[str] | None,
        typer.Option("--critic-option", metavar="KEY=VALUE", help="Of the critic; repeatable."),
    ] = None,
    data: Annotated[str, typer.Option(help="Comma-separated: arithmetic, champ.")] = "arithmetic",
    limit: Annotated[
        int | None, typer.Option(help="Takes so many traces, by hash, of each author alike.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Results; by default runs/critic-bench/CRITIC-DATA."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where a report goes, if one is wanted.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Earlier results to set beside these; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tests how well a critic finds the first wrong step of traces of which it is known."""
    from sdbench.config import listed
    from sdbench.critic_bench import command

    _at_least_one("limit", limit)
    _quiet_libraries()
    found = command.measure(
        command.Choice(
            critic=critic,
            options=tuple(options or ()),
            data=tuple(listed(data)),
            limit=limit,
            out=out,
            beside=tuple(beside or ()),
        ),
        shlex.join(["sdbench", *sys.argv[1:]]),
    )
    command.show(found, report, as_json=as_json)


@app.command("list")
def list_command(
    what: Annotated[Listing, typer.Argument(help="What to list.")], as_json: JsonOption = False
) -> None:
    """Lists what there is, with a line on each."""
    if what is Listing.TASKS:
        _list_tasks(as_json)
        return
    rows = _listing(what)
    width = max(map(len, rows), default=0)
    _print(rows, "\n".join(f"{name:<{width}}  {about}" for name, about in rows.items()), as_json)


@app.command("convert")
def convert_command(
    file: Annotated[Path, typer.Argument(help="A GGUF file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    as_json: JsonOption = False,
) -> None:
    """Makes a model folder in transformers layout of a GGUF file."""
    from sdbench import gguf, models

    _quiet_libraries()
    gguf.convert(file, out)
    made = models.fingerprint(str(out))
    _print({"model": str(out), "sha256": made}, f"{out}: weights {made}", as_json)


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


def _warmed(suite: Suite, out: Path, *, shows: bool = True) -> Suite:
    """The suite with its warmed model, made now if need be."""
    if suite.warmup is None:
        return suite
    from sdbench import live
    from sdbench.suite import warmed

    bar = live.bar(f"{suite.name}: supervised warm-up", suite.warmup.updates)
    with bar if shows else nullcontext(_nothing) as advance:
        return warmed(suite, out, lambda _, loss: advance(1, f"loss {loss:.3f}"))


def _nothing(_: int, __: object) -> None:
    """Shows nothing, where another process does."""


def _arms(suite: Suite, conditions: str | None) -> list[str]:
    from sdbench.conditions.base import names, resolve
    from sdbench.config import listed

    arms = listed(conditions) or list(suite.condition) or names(suite)
    for arm in arms:
        resolve(suite, arm)
    return list(dict.fromkeys(arms))


def _restricted(
    suite: Suite, arms: Sequence[str], *, correct_only: bool, incorrect_only: bool
) -> tuple[Suite, list[str]]:
    """The arms that train on right or on wrong rollouts alone, and the suite that has them."""
    from sdbench.conditions.base import restricted, restricted_name

    if correct_only and incorrect_only:
        raise ConfigError("--correct-only and --incorrect-only: allowed is one of them")
    if not correct_only and not incorrect_only:
        return suite, list(arms)
    rollouts: Literal["correct", "incorrect"] = "correct" if correct_only else "incorrect"
    for arm in arms:
        suite = restricted(suite, arm, rollouts)
    return suite, [restricted_name(arm, rollouts) for arm in arms]


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
    from sdbench import config, plugins

    if what is Listing.SUITES:
        return {name: config.load_suite(name).title for name in config.suite_names()}
    kind = plugins.Kind(what.value)
    return {name: plugins.summary(kind, name) for name in plugins.names(kind)}


def _lines(file: Path) -> AbstractContextManager[BinaryIO]:
    """The lines of a file, or of stdin for `-`."""
    return nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb")


def _list_tasks(as_json: bool) -> None:
    """Every task with its sizes, source, licence and whether it is there without a network."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sdbench import problems

    found = [problems.describe(name) for name in problems.names()]
    if as_json:
        print(json.dumps({one.name: asdict(one) for one in found}, ensure_ascii=False))
        return
    table = Table("task", "problems", "source", "licence", "available", box=None, pad_edge=False)
    for one in found:
        sizes = ", ".join(f"{size:,} {split}" for split, size in one.sizes.items())
        table.add_row(one.name, sizes, one.source, one.licence, one.available)
    console = Console(highlight=False, markup=False)
    # In a pipe each task keeps its line, however long.
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=240)
    console.print(table)


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
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
