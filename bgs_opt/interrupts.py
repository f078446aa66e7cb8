"""Ctrl-C between two steps, never within one.

A KeyboardInterrupt may come at any instruction and would tear what it hits: half a tell, a
process that was started and is not known yet. So it is held back, but for stretches that can
lose nothing: while waiting for values, and in the caller's own code.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]

_PATIENCE = 3  # so many times Ctrl-C come through in any case


class Interrupts:
    """Takes Ctrl-C over, in the main thread and where nobody else handles it."""

    def __init__(self) -> None:
        self.presses = 0
        self._open = False
        self._previous: Any = None

    def __enter__(self) -> Interrupts:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        if self._open or self.presses >= _PATIENCE:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Ctrl-C comes through within; one that came before, or was swallowed within, too."""
        self._open = True  # before the check, so that none falls between the two
        try:
            if self.presses:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False
        if self.presses:
            raise KeyboardInterrupt
