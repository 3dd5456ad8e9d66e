"""How the figures came about: what was decided when, with what, and how to repeat it."""

from __future__ import annotations

import json

from sdbench.report import wording
from sdbench.report.pages import fill
from sdbench.report.schema import Comparison
from sdbench.report.tables import escape, how_to_read

ORDER = 10
TITLE = "Disclosure and provenance"
READ = "What a reader needs to judge the figures and to make them again."
SHARED = (
    "Every condition shares model, problems, optimiser, sampling and evaluation; what differs is in "
    "its table of the suite."
)
SAME_QUESTIONS = (
    "Models that were not trained here answered the same problems with the same number of samples, "
    "temperature and token cap; engines and the form of prompts may differ."
)
ALL_PAIRS = "All pairs of conditions are compared and corrected for, not a chosen few."
HEADING = "The model organism, and choices made after earlier results had been seen"
ORGANISM = (
    wording.ORGANISM_NOTICE,
    *wording.LATE_CHOICES,
    "The learning rate was the better of two on an earlier organism's validation problems.",
    "Pretraining shows solving without context first, since mixed from the start the facts were "
    "not learned; this was found before any condition was trained on the shipped weights.",
)


def render(comparison: Comparison) -> str:
    """As HTML."""
    return fill(
        "provenance.html",
        read=READ,
        heading=HEADING,
        organism=ORGANISM if comparison["organism"] else (),
        general=_general(comparison),
        facts=_facts(comparison),
        command=comparison["command"],
        commands=_commands_of_runs(comparison),
        suite_title="The suite as resolved" if comparison["suite"] else "What was evaluated",
        suite=_suite(comparison),
    )


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
    lines = [how_to_read(READ), ""]
    if comparison["organism"]:
        lines += [f"**{HEADING}**", ""]
        lines += [*(f"- {escape(one)}" for one in ORGANISM), ""]
    lines += [*(f"- {escape(one)}" for one in _general(comparison)), ""]
    lines += [f"- {name}: {escape(value)}" for name, value in _facts(comparison).items()]
    commands = [*_commands_of_runs(comparison), comparison["command"]]
    lines += [
        "",
        "To repeat it:",
        "",
        *(f"    {' '.join(command.split())}" for command in commands),
    ]
    return "\n".join(lines)


def _commands_of_runs(comparison: Comparison) -> list[str]:
    """What made the runs, where that is not what made the report as well."""
    commands = comparison["provenance"]["commands"]
    return [command for command in commands if command != comparison["command"]]


def _general(comparison: Comparison) -> list[str]:
    rows, differing = comparison["leaderboard"], comparison["provenance"]["differing"]
    said = [wording.selection(comparison)]
    if comparison["trial"]:
        said.append(wording.TRIAL)
    if differing:
        said.append(f"Runs differ in more than the condition: {', '.join(differing)}.")
    elif any(row["trained"] for row in rows):
        said.append(SHARED)
    if any(not row["trained"] and row["condition"] != "base" for row in rows) and len(rows) > 1:
        said.append(SAME_QUESTIONS)
    return [*said, _compared(comparison)] if comparison["pairs"] else said


def _compared(comparison: Comparison) -> str:
    against = comparison["against"]
    if against is None:
        return ALL_PAIRS
    return (
        f"As was asked, each condition is compared with {against} and none with another; the"
        " correction is for these pairs."
    )


def _facts(comparison: Comparison) -> dict[str, str]:
    found = comparison["provenance"]
    seeds = sorted({run["seed"] for run in comparison["runs"] if run["trained"]})
    facts = {
        "Suite": comparison["suite"],
        "Task": comparison["task"],
        "Training seeds": ", ".join(map(str, seeds)),
        "Model": found["model"],
        "Training problems": found["data"]["train"],
        "Test problems": found["data"]["test"],
        "Sampling on test": "; ".join(found["sampling"]),
        "Verifier": ", ".join(found["verifiers"]),
        "Code": ", ".join(found["git"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        "Hardware": "; ".join(found["hardware"]),
        "Started": _period(found["started"]),
    }
    return {name: value for name, value in facts.items() if value}


def _period(started: list[str]) -> str:
    if not started:
        return ""
    first, last = min(started), max(started)
    return first if first == last else f"{first} to {last}"


def _suite(comparison: Comparison) -> str:
    return json.dumps(comparison["provenance"]["suite"], indent=2, ensure_ascii=False)
