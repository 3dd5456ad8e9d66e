"""Numbers and findings in words, the same in every rendering. Fractions in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sdbench.report.schema import (
    Bounds,
    Comparison,
    LeaderboardRow,
    Pair,
    RunEntry,
    Span,
)

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NAMES = {
    "avg": "Avg@{k}",
    "pass": "Pass@{k}",
    "maj": "Maj@{k}",
    "all_steps_right": "All steps right",
    "length": "Length",
    "truncated": "Truncated",
    "unparsable": "Unparsable",
    "timeout": "Timeout",
}


def percent(value: float | None) -> str:
    """0.254 as `25.4 %`."""
    return NONE if value is None else f"{signless(100 * value)}\N{NO-BREAK SPACE}%"


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, with its sign: `+4.2`."""
    return NONE if value is None else signed(100 * value, 1)


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign and a true minus."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def signless(value: float, digits: int = 1) -> str:
    """A number with a true minus and no plus; a rounded zero has no sign."""
    return signed(value, digits).removeprefix("+")


def tick(value: float, *, plus: bool = False) -> str:
    """A value on an axis, with as many digits as it needs; `plus` marks positive ones."""
    sign = MINUS if value < 0 else "+" if plus and value > 0 else ""
    return f"{sign}{abs(round(value, 6)):g}"


def percent_tick(value: float) -> str:
    """A fraction on an axis, in percent."""
    return f"{tick(100 * value)}\N{NO-BREAK SPACE}%"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands set apart: `1,234`."""
    return NONE if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


def percent_interval(span: Span | Bounds | None) -> str:
    """An interval of shares: `[21.0, 29.8]`, in percent, cut at 0 and 100."""
    if span is None or span["low"] is None or span["high"] is None:
        return NONE
    low, high = max(0.0, span["low"]), min(1.0, span["high"])
    return f"[{signless(100 * low)}, {signless(100 * high)}]"


def points_interval(low: float | None, high: float | None) -> str:
    """An interval of a difference, in points."""
    return NONE if low is None or high is None else f"[{points(low)}, {points(high)}]"


def number_interval(span: Span | Bounds | None, digits: int = 1) -> str:
    """An interval of numbers as they are."""
    if span is None or span["low"] is None or span["high"] is None:
        return NONE
    return f"[{signless(span['low'], digits)}, {signless(span['high'], digits)}]"


def p_value(p: float) -> str:
    """A p-value to three digits."""
    return f"{p:.3f}" if p >= 0.001 else "<\N{NO-BREAK SPACE}0.001"


def p_clause(p: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def metric_name(key: str) -> str:
    """`avg@12` as `Avg@12`."""
    name, _, k = key.partition("@")
    return NAMES.get(name, name.replace("_", " ")).format(k=k)


def condition_name(condition: str) -> str:
    """How a condition is called in print."""
    return "untrained" if condition == "base" else condition.replace("_", " ")


def seeds(numbers: Sequence[int], *, trained: bool = True) -> str:
    """`3 seeds`."""
    if not trained:
        return "no training"
    return f"{len(numbers)} seed{'s' if len(numbers) != 1 else ''}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def verdict(pair: Pair) -> str:
    """What one comparison found, in words."""
    found = pair["minimum_detectable"]
    if not pair["survives"]:
        hidden = (
            ""
            if found is None
            else f"; one below {100 * found:.1f} points would likely stay hidden"
        )
        return f"No difference shown{hidden}."
    better, other = _higher_first(pair)
    text = f"{better} is above {other}"
    if _seeds_hold_zero(pair):
        text += (
            " for these seeds; the interval that draws seeds holds zero, so new ones may undo it"
        )
    return f"{text}."


def headline(
    leaderboard: Sequence[LeaderboardRow], pairs: Sequence[Pair], k: int, *, trial: bool = False
) -> list[str]:
    """The result in a few sentences, as it came out."""
    said = (
        [*_alone(leaderboard[0], k)]
        if len(leaderboard) == 1
        else [_scores(leaderboard, k), *_findings(leaderboard, pairs)]
    )
    return [*said, *_caveats(leaderboard, pairs), *([TRIAL] if trial else [])]


def _alone(row: LeaderboardRow, k: int) -> list[str]:
    """One model or condition: its score, how many problems, and how far it would move."""
    score = row["selected"][f"avg@{k}"]
    n = score["problems"]
    name = condition_name(row["condition"])
    which = "the untrained model" if row["condition"] == "base" else name
    over = f"{n} problem{'s' if n != 1 else ''}"
    said = f"Avg@{k} of {which} is {percent(score['value'])} over {over} of the test set"
    if score["low"] is None:
        return [f"{said}; one problem gives no interval."]
    again = (
        f", and {percent_interval(score['these_problems'])} with these very problems sampled again"
        if score["these_problems"]
        else ""
    )
    what = "model" if not row["trained"] else "condition"
    return [
        f"{said}.",
        f"95 % intervals: {percent_interval(score)} with other problems of this kind{again}.",
        f"There is one {what} only, so nothing is compared.",
    ]


def _caveats(leaderboard: Sequence[LeaderboardRow], pairs: Sequence[Pair]) -> list[str]:
    """What training seeds have to say against it."""
    trained = [row for row in leaderboard if row["trained"]]
    if trained and all(len(row["seeds"]) == 1 for row in trained):
        return [
            "Each condition was trained once, so nothing here says how far another seed lies off."
        ]
    shaky = [_both(pair) for pair in pairs if pair["survives"] and _seeds_hold_zero(pair)]
    if not shaky:
        return []
    return [f"New training seeds may undo a difference that survived: {'; '.join(shaky)}."]


def _seeds_hold_zero(pair: Pair) -> bool:
    return pair["seeds"] is not None and pair["seeds"]["low"] <= 0 <= pair["seeds"]["high"]


def _scores(leaderboard: Sequence[LeaderboardRow], k: int) -> str:
    reached = [
        f"{condition_name(row['condition'])} {percent(row['selected'][f'avg@{k}']['value'])}"
        for row in leaderboard
    ]
    return f"Avg@{k} on test, from the highest: {listed(reached)}."


def _findings(leaderboard: Sequence[LeaderboardRow], pairs: Sequence[Pair]) -> list[str]:
    """What was trained against what was not, then each kind among itself."""
    trained = {row["condition"] for row in leaderboard if row["trained"]}
    kinds: dict[str, list[Pair]] = {GAINS: [], AS_THEY_ARE: [], TRAINED: [], MODELS: []}
    for pair in pairs:
        if pair["first"] not in trained:
            kinds[MODELS].append(pair)
        elif pair["second"] in trained:
            kinds[TRAINED].append(pair)
        else:
            kinds[GAINS if pair["second"] == "base" else AS_THEY_ARE].append(pair)
    return [
        _finding(where, some, _gain if where == GAINS else _above)
        for where, some in kinds.items()
        if some
    ]


def _finding(where: str, pairs: Sequence[Pair], say: Callable[[Pair], str]) -> str:
    """Which differences survive Holm's correction, and which do not."""
    shown = sorted(
        (pair for pair in pairs if pair["survives"]), key=lambda p: -abs(p["difference"])
    )
    hidden = "; ".join(_both(pair) for pair in pairs if not pair["survives"])
    if not shown:
        return f"{where}, no difference survives Holm's correction: {hidden}."
    these = "one difference survives" if len(shown) == 1 else f"{len(shown)} differences survive"
    text = f"{where}, {these} Holm's correction: {listed([say(pair) for pair in shown])} points."
    return text + (f" Not shown to differ: {hidden}." if hidden else "")


def _gain(pair: Pair) -> str:
    return f"{condition_name(pair['first'])} {points(pair['difference'])}"


def _both(pair: Pair) -> str:
    names = f"{condition_name(pair['first'])} and {condition_name(pair['second'])}"
    return f"{names} ({points(pair['difference'])})"


def _above(pair: Pair) -> str:
    better, other = _higher_first(pair)
    return f"{better} over {other} by {abs(100 * pair['difference']):.1f}"


def _higher_first(pair: Pair) -> tuple[str, str]:
    first, second = condition_name(pair["first"]), condition_name(pair["second"])
    return (first, second) if pair["difference"] > 0 else (second, first)


def question(comparison: Comparison) -> str:
    """What was measured on what, in one line."""
    rows = comparison["leaderboard"]
    trained = sum(row["trained"] for row in rows)
    models = len(rows) - trained
    alone = trained and [row["condition"] for row in rows if not row["trained"]] in ([], ["base"])
    parts = [
        *([counted(trained, "training condition")] if trained else []),
        *([counted(models, "untrained model" if trained else "model")] if not alone else []),
    ]
    problems = rows[0]["selected"][f"avg@{comparison['k']}"]["problems"]
    return (
        f"{listed(parts)} on {counted(problems, 'test problem')} of {comparison['task']}, "
        f"{counted(comparison['k'], 'sample')} each"
    )


def counted(count: int, what: str) -> str:
    """`1 model`, `2 models`."""
    return f"{count} {what}{'s' if count != 1 else ''}"


def selection(comparison: Comparison) -> str:
    """How checkpoints came to be selected, in one sentence."""
    tasks, splits = comparison["selection"]["tasks"], comparison["selection"]["splits"]
    if not splits:
        return NOTHING_TRAINED
    if tasks != [comparison["task"]]:
        return f"Checkpoints were selected on {listed(tasks)}, not on {comparison['task']}."
    if len(splits) > 1:
        return f"{SELECTED_ON_VALIDATION} Where a run had no validation: {CROSS_FITTED}"
    return CROSS_FITTED if splits == ["test"] else SELECTED_ON_VALIDATION


def crossed(comparison: Comparison) -> str:
    """Which checkpoint cross-fitting chose for which half, run by run; empty if it was not used."""
    found = [
        f"{condition_name(run['condition'])} seed {run['seed']}: {by_half(run)}"
        for run in comparison["runs"]
        if run["checkpoint"]["halves"]
    ]
    if not found:
        return ""
    return f"Updates that cross-fitting chose for the halves of the problems: {'; '.join(found)}."


def by_half(run: RunEntry) -> str:
    """`30 for the first and 40 for the second`."""
    first, second = (int(label) for label in run["checkpoint"]["halves"])
    if first == second:
        return f"{first} for both"
    return f"{first} for the first and {second} for the second"


ORGANISM_NOTICE = (
    "The solver is a model organism: half a million parameters, built to show the mechanism on a "
    "laptop. Its figures are no evidence about language models."
)
CHOSEN_LATE = "Chosen after results of earlier versions had been seen:"
LATE_CHOICES = (
    "\N{LEFT DOUBLE QUOTATION MARK}Slip\N{RIGHT DOUBLE QUOTATION MARK} documents are part of "
    "pretraining; without them critique lowered accuracy.",
    "Hard facts are stated rightly with probability .05 in pretraining; at .35 GRPO won over "
    "critique and reference.",
    "It is the third task design.",
)
SELECTED_ON_VALIDATION = "Checkpoints are selected on validation and reported on test."
CROSS_FITTED = (
    "Checkpoints are selected by cross-fitting: each half of the test problems (by a hash of their "
    "ids) is scored by the checkpoint that the other half chose."
)
NOTHING_TRAINED = "Nothing was trained here: models are sampled as they are, and none was selected."
TRIAL = "This is a trial on the first problems of the test set, not a result on all of it."
GAINS = "Against the untrained model"
AS_THEY_ARE = "Against models as they are"
TRAINED = "Between conditions"
MODELS = "Between models"
