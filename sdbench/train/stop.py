"""SIGTERM: a request to stop, obeyed where nothing is left half done.

Schedulers send it some time before they kill. While rollouts are drawn it takes effect at once, since
nothing has changed since the last update; during an update it waits for its end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sdbench.errors import Stopped


class Stop:
    """Whether the run has been asked to stop."""

    def __init__(self, *, at_once: bool) -> None:
        """Prepares.

        Args:
            at_once: Whether a request outside `held` raises; else `asked` tells of it.
        """
        self._at_once = at_once
        self._held = False
        self._over = False
        self.asked = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """No request takes effect within the block.

        Raises:
            Stopped: at its end, if there was one.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.asked:
            self._obey()

    def request(self, _: int, __: FrameType | None) -> None:
        """Handles the signal; after the first, others change nothing."""
        self.asked = True
        if not self._held:
            self._obey()

    def over(self) -> None:
        """From now on no request takes effect: nothing is left but to close."""
        self._over = True

    def _obey(self) -> None:
        if self._at_once and not self._over:
            self._over = True
            raise Stopped("stopped by SIGTERM")


@contextmanager
def stopping(*, at_once: bool) -> Iterator[Stop]:
    """Turns SIGTERM into a request while the block lasts; only the main thread gets signals."""
    stop = Stop(at_once=at_once)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
