"""Asks a critic about marked traces and keeps what it says.

In: a critic with its options, the name of a data set, a folder. Out, in that folder: `critiques.jsonl`,
one row for each critique as it comes, and `results.json`, the scores. What is in the folder is not
asked again, unless the trace has changed; a larger limit asks about the new traces only. A folder is
of one critic: other options, or other weights of its model, need another folder.

The seconds of a critique are those since the one before it came, so that they add up to the wall time,
the start of an engine included.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

from sdbench import plugins, provenance
from sdbench.config import Frozen, apply_override, validate
from sdbench.critic_bench import marked, score
from sdbench.critic_bench.marked import Marked
from sdbench.critic_bench.schema import CriticEntry, DataEntry, Ledger, Result
from sdbench.critics.base import Critic, CriticSurroundings, content_key, read_critique
from sdbench.engines.base import Progress
from sdbench.errors import ConfigError
from sdbench.models import ORGANISM
from sdbench.prompts import Style
from sdbench.records import Critique
from sdbench.rundir import (
    JsonValue,
    Row,
    RowWriter,
    alone_in,
    keep_rows,
    read_json,
    read_rows,
    to_row,
    write_json,
)

SOLVERS = ("solver", ORGANISM)
HASH_LETTERS = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A critic to be tested.

    Attributes:
        entry: Its name and its options as resolved.
        critic: Itself.
        identity: Tells apart critics that may write differently.
    """

    entry: CriticEntry
    critic: Critic
    identity: str


@dataclass(frozen=True, slots=True)
class Said:
    """A critique with what it is of and what it took.

    Attributes:
        key: Of what was judged, see `critics.base.content_key`.
        critique: What the critic said.
        seconds: Since the critique before it.
        came: False if the critic gave none; `critique` then has no case and no text.
    """

    key: str
    critique: Critique
    seconds: float
    came: bool = True


def open_candidate(name: str, options: Sequence[str]) -> Candidate:
    """Builds a critic.

    Args:
        name: Of a critic.
        options: `key=value` as in a suite's `[critic]` options.

    Raises:
        ConfigError: no such critic, or an option it does not have.
    """
    module = plugins.load(plugins.Kind.CRITIC, name)
    table: Row = {}
    for option in options:
        apply_override(table, option, "--critic-option")
    config = validate(cast(type[Frozen], module.Config), table, f"critic {name}")
    resolved: Row = config.model_dump(mode="json")
    critic = cast(Critic, module.build(config, CriticSurroundings(_style(resolved))))
    entry: CriticEntry = {"name": name, "label": _label(name, resolved), "options": resolved}
    return Candidate(entry, critic, critic.identity or f"{name}-{_hash(resolved)}")


def folder_for(critic: str, data: str) -> Path:
    """Where results go by default."""
    return Path("runs") / "critic-bench" / f"{critic}-{data}"


def run(
    candidate: Candidate, data: str, traces: Sequence[Marked], of: int, folder: Path, told: Progress
) -> Result:
    """Tests a critic on some traces of a data set.

    Args:
        candidate: The critic; it is closed at the end.
        data: The data set's name.
        traces: What it is tested on.
        of: How many traces the data set has.
        folder: Where critiques and results are kept.
        told: Called with the number of critiques that are newly there.

    Returns:
        What is in `results.json`.

    Raises:
        ConfigError: the folder is of another critic.
        CriticError: the critic cannot judge these traces.
        DataError: another process is testing it into this folder.
    """
    held = stored(folder, candidate.identity)
    open_traces = [trace for trace in traces if not _answered(trace, held)]
    told(len(traces) - len(open_traces))
    if open_traces:
        for said in _kept(_ask(candidate.critic, open_traces), folder, candidate):
            held[said.critique.rollout_id] = said
            told(1)
    found = _result(candidate.entry, _data(data, traces, of), traces, held, folder)
    write_json(folder / "results.json", found)
    return found


def stored(folder: Path, identity: str) -> dict[str, Said]:
    """The critiques in a folder, by the id of their trace; of several of one trace the last.

    Raises:
        ConfigError: they are another critic's.
    """
    found: dict[str, Said] = {}
    for row in read_rows(_critiques(folder)):
        if row["critic"] != identity:
            raise ConfigError(
                f"{folder} holds critiques by {row['critic']}, not by {identity}",
                hint="give --out another folder, or remove that one",
            )
        said = _from_row(row)
        found[said.critique.rollout_id] = said
    return found


def _ask(critic: Critic, traces: Sequence[Marked]) -> Iterator[Said]:
    """What the critic says of each trace as it comes; at the end, those of which it said nothing."""
    keys = {trace.id: content_key(trace.attempt) for trace in traces}
    before = time.monotonic()
    with closing(critic):
        for critique in critic.critique([trace.attempt for trace in traces]):
            now = time.monotonic()
            yield Said(keys.pop(critique.rollout_id), critique, round(now - before, 6))
            before = now
    for id, key in keys.items():
        yield Said(key, Critique(id, "", None, "", None), 0.0, came=False)


def _kept(answers: Iterator[Said], folder: Path, candidate: Candidate) -> Iterator[Said]:
    """The answers, each once it is on disk."""
    # A critic that cannot judge these traces says so with the first, and leaves nothing behind.
    first = next(answers)
    with alone_in(folder, "writing critiques"):
        _remember_call(folder, candidate)
        keep_rows(_critiques(folder), lambda _: True)  # drops a line that a kill cut short
        with RowWriter(_critiques(folder)) as writer:
            for said in chain((first,), answers):
                writer.write(_to_row(said, candidate.identity))
                yield said


def _answered(trace: Marked, held: dict[str, Said]) -> bool:
    return trace.id in held and held[trace.id].key == content_key(trace.attempt)


def _result(
    entry: CriticEntry,
    data: DataEntry,
    traces: Sequence[Marked],
    held: dict[str, Said],
    folder: Path,
) -> Result:
    said = [held[trace.id] for trace in traces]
    findings = [
        score.judge(trace, one.critique, one.seconds)
        for trace, one in zip(traces, said, strict=True)
    ]
    return {
        "critic": entry,
        "data": data,
        "scores": score.scores(findings),
        "by_author": score.scores_by(findings, lambda one: one.author),
        "by_category": score.scores_by(findings, lambda one: one.category),
        "controls": {
            name: score.scores(guessed) for name, guessed in score.controls(traces).items()
        },
        "ledger": _ledger(said),
        "provenance": provenance.describe(),
        "asked": _calls(folder),
    }


def _data(name: str, traces: Sequence[Marked], of: int) -> DataEntry:
    erroneous = sum(trace.first_wrong is not None for trace in traces)
    return {
        "name": name,
        "traces": len(traces),
        "of": of,
        "problems": len({trace.problem_id for trace in traces}),
        "erroneous": erroneous,
        "error_free": len(traces) - erroneous,
        "authors": marked.counts(traces, lambda trace: trace.author),
        "categories": marked.counts(traces, lambda trace: trace.category),
        "chosen": "all" if len(traces) == of else marked.CHOSEN,
        "fingerprint": marked.fingerprint(traces),
    }


def _ledger(said: Iterable[Said]) -> Ledger:
    every = list(said)
    return {
        "critiques": sum(one.came for one in every),
        "unreadable": sum(one.came and one.critique.case is None for one in every),
        "refused": sum(one.critique.case is not None and not one.critique.usable for one in every),
        "missing": sum(not one.came for one in every),
        "tokens": sum(one.critique.tokens for one in every),
        "seconds": sum(one.seconds for one in every),
    }


def _remember_call(folder: Path, candidate: Candidate) -> None:
    """Notes who is asked, and by what code and machine."""
    asked: list[JsonValue] = [*_calls(folder), provenance.describe()]
    write_json(
        _settings(folder),
        {"critic": candidate.entry, "identity": candidate.identity, "asked": asked},
    )


def _calls(folder: Path) -> list[JsonValue]:
    if not _settings(folder).is_file():
        return []
    return cast("list[JsonValue]", read_json(_settings(folder))["asked"])


def _to_row(said: Said, identity: str) -> Row:
    return {
        "id": said.critique.rollout_id,
        "key": said.key,
        "critic": identity,
        "came": said.came,
        "seconds": said.seconds,
        "critique": to_row(said.critique),
    }


def _from_row(row: Row) -> Said:
    critique = read_critique(cast(Row, row["critique"]))
    return Said(str(row["key"]), critique, cast(float, row["seconds"]), bool(row["came"]))


def _critiques(folder: Path) -> Path:
    return folder / "critiques.jsonl"


def _settings(folder: Path) -> Path:
    return folder / "critic.json"


def _style(options: Row) -> Style:
    """Steps as a language model is asked for them; the tiny solver reads its own prompts."""
    return "organism" if options.get("model") in SOLVERS else "steps"


def _label(name: str, options: Row) -> str:
    """A critic that is a model goes by the model's name."""
    model = options.get("model")
    return Path(model).name if isinstance(model, str) else name


def _hash(options: Row) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:HASH_LETTERS]
