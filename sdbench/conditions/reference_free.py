"""A teacher without any context: the initial policy reads what the student reads.

Where the suite has the teacher think and the student not, the teacher's prompt asks for thought, and
that is all it knows more; else there is nothing to learn, A_t is 0 at the start, and training only
holds the policy where it was. What `critique` gains over this, it gains from its context.

Source: 2609.20612, where a thinking teacher without a reference explains much of the gain of
Qwen3-1.7B.
"""

from __future__ import annotations

from sdbench.conditions.base import Condition, Surroundings
from sdbench.conditions.reference import Config as Config
from sdbench.conditions.reference import Told


def build(config: Config, surroundings: Surroundings) -> Condition:
    """The condition; it needs no critic."""
    return Told(surroundings, "solver", lambda attempt: "")
