"""A critique that quotes the wrong step in full before it puts it right.

The control for the first of the study's three regimes: text that stands in the teacher's prompt gets
likelier, so a quoted error is taught, and A_t is expected to be positive at it too. Everything but
the quotation is the text that `critique` shows. A rollout in which no written step is wrong gets what
`critique` gives it.

Source: 2606.11173, the regimes of full quotation, omission and partial copy.
Departure: the words around the quotation are the project's own (`prompts/<style>/full_quote.txt`), and
a language model is told that a teacher wrote them (`remarks.txt`), not that they are an attempt.
"""

from __future__ import annotations

from sdbench import prompts
from sdbench.conditions._cut import cut
from sdbench.conditions.base import Condition, Surroundings
from sdbench.conditions.critique import Config as Config
from sdbench.conditions.critique import Critiqued, Shown
from sdbench.records import Attempt, Critique


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition."""

    def quoted(attempt: Attempt, critique: Critique) -> Shown:
        parts = cut(attempt, critique)
        if not parts.wrong:
            return Shown(critique.text)
        text = prompts.remark(
            surroundings.style,
            "full_quote",
            before=parts.before,
            wrong=parts.wrong,
            number=str(parts.right + 1),
            after=parts.after,
        )
        return Shown(text, "remarks")

    return Critiqued(surroundings, quoted)
