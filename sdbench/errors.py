"""The one error tree. What a user can cause is an `SdbenchError`; anything else is a bug."""

from __future__ import annotations


class SdbenchError(Exception):
    """A fault with a cause outside the code: one line, exit code 2, no traceback.

    Args:
        message: Names the key or id, the place, what was found and what is allowed.
        hint: What to do about it; printed after `hint:`.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.hint is None else f"{message} (hint: {self.hint})"


class ConfigError(SdbenchError):
    """A suite, an option or a plugin name is not what it must be."""


class DataError(SdbenchError):
    """A problem set, a record or a file of records is missing, empty or malformed."""


class EngineError(SdbenchError):
    """An engine cannot serve a request, for example a prompt that does not fit."""


class CriticError(SdbenchError):
    """A critic cannot judge this task or this rollout."""


class GradingError(SdbenchError):
    """The grader itself failed; a wrong answer is a verdict, never an error."""


class CheckpointError(SdbenchError):
    """A checkpoint is missing, incomplete or does not belong to this run."""


class Stopped(SdbenchError):
    """The work was asked to stop; what was done is saved."""
