"""A critique without the steps that were right: it names them and shows only how it goes on.

The control for the second of the study's three regimes: what is not copied into the teacher's prompt
gets no likelier there, so A_t is expected to be negative at the correct steps as well. The correction
and the answer are those that `critique` shows; of a right rollout only the answer is left.

Source: 2606.11173, the regimes of full quotation, omission and partial copy.
Departure: the words are the project's own (`prompts/<style>/omit_trace.txt`), and a language model is
told that a teacher wrote them (`remarks.txt`), not that they are an attempt.
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

    def shortened(attempt: Attempt, critique: Critique) -> Shown:
        parts = cut(attempt, critique)
        if not parts.right:
            return Shown(critique.text)
        text = prompts.remark(
            surroundings.style,
            "omit_trace",
            count=str(parts.right),
            after=parts.after.lstrip(),
        )
        return Shown(text, "remarks")

    return Critiqued(surroundings, shortened)
