"""What `sdbench bench critics` does: options to results, and what is printed and written of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdbench import live
from sdbench.critic_bench import marked, page, run
from sdbench.critic_bench.page import Report
from sdbench.errors import ConfigError
from sdbench.plugins import unknown


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of the command.

    Attributes:
        critic: Name of a critic.
        options: Its options, `key=value`.
        data: Names of data sets.
        limit: Takes so many traces of each; None takes all.
        out: Folder of the results, for a single data set; None for the default.
        beside: Folders of earlier results to show as well.
    """

    critic: str
    options: tuple[str, ...] = ()
    data: tuple[str, ...] = ("arithmetic",)
    limit: int | None = None
    out: Path | None = None
    beside: tuple[Path, ...] = ()


def measure(choice: Choice, command: str) -> Report:
    """Tests a critic on every data set chosen; what is there already is not asked again.

    Args:
        choice: The options.
        command: As it was typed.

    Raises:
        ConfigError: no such critic, option or data set, or one that does not go with another.
        CriticError: the critic cannot judge this data set.
        DataError: data or earlier results are missing.
    """
    names = list(dict.fromkeys(choice.data))
    for name in names:
        if name not in marked.names():
            raise unknown("data", name, marked.names())
    if choice.out is not None and len(names) > 1:
        raise ConfigError(
            f"--out is the folder of one data set, found {', '.join(names)}; allowed with it: one",
            hint="leave --out away, or call once for each",
        )
    page.read(choice.beside, command)
    folders = [_measure(choice, name) for name in names]
    return page.read(list(dict.fromkeys([*folders, *choice.beside])), command)


def show(report: Report, out: Path | None, *, as_json: bool) -> None:
    """Prints results on stdout, and writes the report's files if a folder is given."""
    if out is not None:
        page.write(report, out)
    if as_json:
        print(page.data(report), end="")
        return
    page.print_results(report)
    if out is not None:
        print(f"report: {(out / 'index.html').resolve()}")


def _measure(choice: Choice, data: str) -> Path:
    """The folder with the results."""
    candidate = run.open_candidate(choice.critic, choice.options)
    every = marked.load(data)
    traces = marked.chosen(every, choice.limit)
    folder = choice.out or run.folder_for(choice.critic, data)
    with live.bar(f"{candidate.entry['label']} on {data}", len(traces)) as advance:
        run.run(candidate, data, traces, len(every), folder, lambda done: advance(done, ""))
    return folder
