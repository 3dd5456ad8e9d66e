"""A critique that marks a correct step as the error, and nothing else.

The control for *where* the critique points. It has the form of `critique`: the solver's own steps
verbatim, one of them replaced. But the one that is replaced was right, its replacement is false, and
the solver's own error, if there is one, is copied as if it were right. If training on this helped as
much, it would not be the marking of errors that helps.

The step is picked by a hash of the rollout's id among the correct steps that hold a number; the last
digit of its last number is changed. A rollout without such a step is dropped and counted.

Source: a control of this project for the claim of 2606.11173.
"""

from __future__ import annotations

import random
import re

from sdbench import traces
from sdbench.conditions.base import Condition, Surroundings
from sdbench.conditions.critique import Config as Config
from sdbench.conditions.critique import Critiqued, Shown
from sdbench.critics.base import said
from sdbench.records import Attempt, Critique

_LAST_DIGIT = re.compile(r"\d(?=\D*\Z)")


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""

    def shown(attempt: Attempt, critique: Critique) -> Shown | None:
        text = misplaced(attempt, critique)
        return None if text is None else Shown(text)

    return Critiqued(surroundings, shown)


def misplaced(attempt: Attempt, critique: Critique) -> str | None:
    """The attempt with one correct step made wrong; None if it has none that can be."""
    trace = traces.parse(said(attempt.rollout.text))
    wrong = critique.first_wrong_step
    right = trace.steps if wrong is None else trace.steps[: wrong - 1]
    places = [
        step.start + len(f"<step_{step.number}>") + found.start()
        for step in right
        if (found := _LAST_DIGIT.search(step.content))
    ]
    if not places:
        return None
    draw = random.Random(f"wrong-step-{attempt.rollout.id}")
    place = draw.choice(places)
    digit = (int(trace.text[place]) + draw.randint(1, 9)) % 10
    return f"{trace.text[:place]}{digit}{trace.text[place + 1 : trace.end]}"
