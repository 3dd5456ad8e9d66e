"""What `sdbench critique` does: attempts and critiques from a run or a file, audited.

In: a run folder or a JSONL file. Out: `critiques.jsonl`, a row for each critique with what the audit
found, and `audit.json`, shares over them. Without a critic the critiques are those that are there: what
a run was trained on, or the file's own. With one, it writes them, through the store of critiques, so a
command that was interrupted pays for nothing twice; its results lie apart from the source's own and
from those of every critic that may write otherwise.

What is wrong with an attempt is known of arithmetic, whose steps are checked exactly, and of rows that
say `first_wrong_step`. The critic `aligned`, which can err, is no truth; where it can judge, how often a
critique agrees with it is reported under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from sdbench import assembly
from sdbench.audit import Judgement, audit, summarise
from sdbench.config import PluginConfig, apply_override
from sdbench.critics import aligned, oracle
from sdbench.critics.base import Critic
from sdbench.critique_source import Choice, Source, of_file, of_run
from sdbench.errors import DataError
from sdbench.grading import Grader
from sdbench.records import Attempt, Critique
from sdbench.rundir import Row, RunDir, to_row, write_json, write_rows

LENGTH = "length over the attempt's"
WORDS = {
    "parsed": "can be read",
    "verbatim": "correct prefix verbatim",
    "exact": "prefix copied to the token",
    "quoted": "wrong step quoted",
    "leaked": "answer leaked into a correct step",
    "answer_right": "answer right",
    "first_error_right": "first wrong step found",
    "case_right": "case right",
    "agrees_on_first_error": "agreement with aligned: first wrong step",
    "agrees_on_case": "agreement with aligned: case",
}

Bar = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the command gave: as JSON, and for people."""

    row: Row
    text: str


def run(path: Path, choice: Choice, grader: Grader, bar: Bar) -> Outcome:
    """Audits the critiques of a run folder or a file.

    Args:
        path: The run folder or the JSONL file.
        choice: The options.
        grader: Of answers.
        bar: Opened with the number of attempts, and called as critiques come.

    Raises:
        ConfigError: an option that does not go with this path, an unknown critic or task.
        DataError: no such path, a row that lacks a field, or nothing to audit.
        CriticError: the critic cannot judge the task.
    """
    source = of_run(RunDir(path), choice) if path.is_dir() else of_file(path, choice, grader)
    if choice.critic is None and not source.given:
        raise DataError(
            f"{path} holds no critique to audit", hint="add --critic, such as --critic oracle"
        )
    critic = None if choice.critic is None else _critic(source, choice, choice.critic)
    found = source.given if critic is None else _written(source, critic, bar)
    below = "" if critic is None else f"critics/{critic.identity or choice.critic}"
    out = choice.out or source.own / below
    about: Row = {"source": str(path), "task": _tasks(source.attempts)}
    row = _audited(source, found, grader, out, about)
    return Outcome({"out": str(out), **row}, _text(row, out))


def audit_run(run: RunDir, grader: Grader) -> None:
    """Writes the audit of the critiques that a run was trained on, once; of none, nothing."""
    if run.audit.exists():
        return
    source = of_run(run, Choice())
    if source.given:
        about: Row = {"source": str(run.root), "task": source.suite.task}
        _audited(source, source.given, grader, run.root, about)


def judgements(attempts: Iterable[Attempt]) -> dict[str, Judgement]:
    """What is wrong with the attempts whose steps can be checked exactly, by rollout id."""
    checkable = [one for one in attempts if oracle.judges(one.problem.task)]
    return _as_judgements(oracle.Oracle().critique(checkable))


def opinions(attempts: Iterable[Attempt]) -> dict[str, Judgement]:
    """What the critic `aligned` takes to be wrong, where it can judge and no exact checker can."""
    judged = [
        one
        for one in attempts
        if aligned.judges(one.problem) and not oracle.judges(one.problem.task)
    ]
    return _as_judgements(aligned.Aligned().critique(judged))


def _as_judgements(critiques: Iterable[Critique]) -> dict[str, Judgement]:
    return {one.rollout_id: Judgement(one.first_wrong_step, one.case) for one in critiques}


def _audited(
    source: Source, critiques: Sequence[Critique], grader: Grader, out: Path, about: Row
) -> Row:
    """Audits critiques and writes both files."""
    asked = {one.rollout_id for one in critiques}
    attempts = [one for one in source.attempts if one.rollout.id in asked]
    exact, critics = judgements(attempts), sorted({one.critic for one in critiques})
    others = {} if critics == ["aligned"] else opinions(attempts)  # It agrees with itself.
    findings = audit(attempts, critiques, grader, {**exact, **source.truths}, others)
    write_rows(
        RunDir(out).critiques,
        [
            {
                "rollout_id": one.rollout_id,
                "problem_id": finding.problem_id,
                "critique": to_row(one),
                "finding": to_row(finding),
            }
            for one, finding in zip(critiques, findings, strict=True)
        ],
    )
    row: Row = {
        **about,
        "critic": ", ".join(critics),
        "truth": "given" if source.truths else "oracle" if exact else None,
        **summarise(findings, len(source.attempts)),
        "critic_tokens": sum(one.tokens for one in critiques),
        "critic_tokens_stored": sum(one.tokens for one in critiques if one.stored),
    }
    write_json(RunDir(out).audit, row)
    return row


def _critic(source: Source, choice: Choice, name: str) -> Critic:
    """The critic that was asked for, with the suite's options if it is the suite's."""
    suite = source.suite
    options: Row = {}
    if name == suite.critic.name:
        options |= cast(Row, suite.critic.options)
    for option in choice.critic_options:
        apply_override(options, option, "--critic-option")
    named = PluginConfig(name=name, options=cast("dict[str, object]", options))
    now = datetime.now(UTC).isoformat()
    return assembly.critic(suite, named, store=source.store, run=f"critique {now}")


def _written(source: Source, critic: Critic, bar: Bar) -> list[Critique]:
    """The critic's critiques in the order of the attempts."""
    found: dict[str, Critique] = {}
    with closing(critic), bar(len(source.attempts)) as advance:
        for one in critic.critique(source.attempts):
            found[one.rollout_id] = one
            advance(1, "")
    return [found[a.rollout.id] for a in source.attempts if a.rollout.id in found]


def _tasks(attempts: Sequence[Attempt]) -> str:
    return ", ".join(sorted({one.problem.task for one in attempts} - {""}))


def _text(row: Row, out: Path) -> str:
    """The audit as a table, then counts."""
    shares = cast("dict[str, Row | None]", row["shares"])
    lines = [
        f"{row['critic']}: {row['critiques']} critiques of {row['attempts']} attempts at"
        f" {row['problems']} problems"
    ]
    lines.append(f"{'':<42}{'share':>8}  {'95 % interval':<18}{'of':>7}")
    lines += [_line(WORDS[name], found) for name, found in shares.items() if found is not None]
    ratio = cast("dict[str, Row | None]", row["lengths"])["ratio"]
    if ratio is not None:
        lines.append(f"{LENGTH:<42}{cast(float, ratio['value']):>8.2f}")
    for name in ("cases", "faults"):
        counts = cast("dict[str, int]", row[name])
        if counts:
            said_ = ", ".join(f"{key} {count}" for key, count in counts.items())
            lines.append(f"{name}: {said_}")
    for true, named in cast("dict[str, dict[str, int]]", row["confusion"]).items():
        said_ = ", ".join(f"{key} {count}" for key, count in named.items())
        lines.append(f"of case {true}, named: {said_}")
    tokens, stored = row["critic_tokens"], row["critic_tokens_stored"]
    if tokens:
        lines.append(f"tokens: {tokens}, of them {stored} from the store")
    return "\n".join([*lines, f"audit: {RunDir(out).audit}"])


def _line(name: str, found: Row) -> str:
    value, low, high = (cast("float | None", found[key]) for key in ("value", "low", "high"))
    span = "" if low is None or high is None else f"[{max(0, low):.1%}, {min(1, high):.1%}]"
    return f"{name:<42}{value:>8.1%}  {span:<18}{found['critiques']:>7}"
