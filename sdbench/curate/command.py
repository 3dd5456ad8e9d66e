"""`sdbench data`: its three commands with their options; the bodies import what they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Below it nearly every pair is one.
LEAST_THRESHOLD = 0.01

app = typer.Typer(no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Prints the result as JSON on stdout.")]
AgainstOption = Annotated[
    str | None,
    typer.Option(metavar="TASK[,TASK]", help="Tasks whose validation and test problems count."),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Of the engine; repeatable."),
]


@app.command("filter")
def filter_command(
    task: Annotated[str, typer.Argument(help="See `sdbench list tasks`.")],
    solver: Annotated[str, typer.Option(metavar="MODEL", help="For whom they are to be hard.")],
    critic: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Who must be able to solve them; without it, nobody."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the task.")] = "train",
    k: Annotated[int, typer.Option(help="Samples a problem by the solver.")] = 16,
    below: Annotated[str, typer.Option(help="Its share of right samples lies below.")] = "5/16",
    well_formed: Annotated[
        str, typer.Option("--format", help="Its share of well-formed samples is at least.")
    ] = "0.75",
    critic_k: Annotated[int, typer.Option(help="Attempts of the critic.")] = 1,
    critic_temperature: Annotated[float, typer.Option(help="Of its attempts.")] = 0.0,
    limit: Annotated[int | None, typer.Option(help="Takes the first so many.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="Where prompts, thinking and dtype come from.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=VALUE", help="Overrides a key of the suite."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="hf, vllm, server or auto, as in `sdbench eval`.")
    ] = None,
    engine_option: EngineOptions = None,
    critic_engine: Annotated[
        str | None, typer.Option(help="Of the critic; --engine if that is given.")
    ] = None,
    critic_engine_option: EngineOptions = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the solver's samples; the task's.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Token cap of the solver; the task's.")
    ] = None,
    critic_max_tokens: Annotated[
        int | None, typer.Option(help="Token cap of the critic; its suite's or the task's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all samples.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Keeps the problems that the solver rarely gets right, in good form, and the critic can solve.

    Samples are kept in --out, by default runs/filters/TASK-SPLIT/SOLVER: the same command continues
    after a kill, and other thresholds ask the solver nothing.
    """
    from dataclasses import replace

    from sdbench.curate import filter as filtering
    from sdbench.eval_command import Choice
    from sdbench.evaluate.sample import Engines
    from sdbench.grading import Grader

    _at_least_one("k", k)
    _at_least_one("critic-k", critic_k)
    _at_least_one("limit", limit)
    _at_least_one("max-tokens", max_tokens)
    _at_least_one("critic-max-tokens", critic_max_tokens)
    _within("temperature", temperature, 0, 10)
    _within("critic-temperature", critic_temperature, 0, 10)
    criteria = filtering.Criteria(
        filtering.share("--below", below), filtering.share("--format", well_formed)
    )
    if critic_k > 1 and critic_temperature == 0:
        raise ConfigError(
            f"--critic-k {critic_k} at temperature 0 gives one answer {critic_k} times",
            hint="add --critic-temperature",
        )
    root = out or filtering.folder_of(task, split, solver)
    by_solver = Choice(
        suite=suite,
        overrides=tuple(overrides or ()),
        tasks=(task,),
        split=split,
        k=k,
        limit=limit,
        engine=engine,
        engine_options=tuple(engine_option or ()),
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        out=root,
    )
    by_critic = replace(
        by_solver,
        k=critic_k,
        engine=critic_engine or engine,
        engine_options=tuple(critic_engine_option or ()),
        temperature=critic_temperature,
        max_tokens=critic_max_tokens,
    )
    inquiry = filtering.Inquiry(
        filtering.plan_of_solver(solver, by_solver),
        None if critic is None else filtering.plan_of_critic(critic, by_critic),
        criteria,
    )
    with Grader() as grader, Engines() as engines:
        found = filtering.apply(inquiry, grader, engines)
    text = (
        f"{filtering.summary(found)}\n{root / 'problems.jsonl'}\n"
        f"next: sdbench data split {root} --train N --validation N --test N"
    )
    _print({"folder": str(root), **found}, text, as_json)


@app.command("split")
def split_command(
    source: Annotated[
        str, typer.Argument(metavar="TASK|DIR", help="A task, or a folder of `data filter`.")
    ],
    train: Annotated[int, typer.Option(help="How many problems.")],
    validation: Annotated[int, typer.Option(help="How many problems.")],
    test: Annotated[int, typer.Option(help="How many problems.")],
    taken_from: Annotated[
        str | None,
        typer.Option("--from", metavar="SPLIT[,SPLIT]", help="The task's own splits; train."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    against: AgainstOption = None,
    drop_overlap: Annotated[
        bool, typer.Option("--drop-overlap", help="Leaves out what overlaps; it is refused else.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="By default TASK.split.json.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Freezes training, validation and test problems by hash; a suite names the file in [data].

    No two of the new splits share a question or an id, nor do they share one with the evaluation
    splits of the tasks named by --against.
    """
    from sdbench.config import listed
    from sdbench.curate import split as splitting

    pool = splitting.pool_of(source, listed(taken_from))
    sizes = {"train": train, "validation": validation, "test": test}
    dealt = splitting.deal(pool, sizes, seed, listed(against), drop_overlap=drop_overlap)
    path = out or Path(f"{pool.task}.split.json")
    splitting.write(dealt, path)
    _print({"file": str(path), **dealt.as_row()}, splitting.summary(dealt, path), as_json)


@app.command("duplicates")
def duplicates_command(
    tasks: Annotated[
        str,
        typer.Argument(metavar="TASK|DIR[,...]", help="Training problems, or what a filter kept."),
    ],
    against: AgainstOption = None,
    threshold: Annotated[float, typer.Option(help="Jaccard index of near-duplicates.")] = 0.5,
    shingle: Annotated[int, typer.Option(help="Words of a shingle.")] = 3,
    ngram: Annotated[int, typer.Option(help="Words of a common run that counts.")] = 13,
    ignore_numbers: Annotated[
        bool, typer.Option("--ignore-numbers", help="Takes all numbers for alike.")
    ] = False,
    pairs: Annotated[int, typer.Option(help="Lists the nearest so many.")] = 100,
    fail_above: Annotated[
        float | None,
        typer.Option(help="Ends with code 1 if a larger share is touched."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Reports which evaluation problems resemble training problems.

    Evaluation problems are those of --against, by default of the same tasks.
    """
    from sdbench.config import listed
    from sdbench.curate import duplicates
    from sdbench.curate.split import evaluation_splits, pool_of

    _within("threshold", threshold, LEAST_THRESHOLD, 1)
    _at_least_one("shingle", shingle)
    _at_least_one("ngram", ngram)
    _at_least_one("pairs", pairs)
    _within("fail-above", fail_above, 0, 1)
    pools = [pool_of(source) for source in dict.fromkeys(listed(tasks))]
    training = [problem for pool in pools for problem in pool.problems]
    evaluation = evaluation_splits(listed(against) or [pool.task for pool in pools], pools)
    measure = duplicates.Measure(threshold, shingle, ngram, ignore_numbers)
    found = duplicates.compare(training, evaluation, measure, pairs)
    _print(found.as_row(), duplicates.report(found), as_json)
    if fail_above is not None and found.share > fail_above:
        raise typer.Exit(1)


def _at_least_one(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"--{option} {value}: allowed are whole numbers from 1")


def _within(option: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"--{option} {value:g}: allowed are {low:g} to {high:g}")


def _print(value: Mapping[str, object], text: str, as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else text)
