"""External programs: what one prints, within bounds, and that none outlives the run.

A program leads a process group, so that it can be killed with all that it starts. A run that is
killed itself can kill nothing any more; then a second process does, which waits for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

__all__ = ["Watchdog", "answer", "kill"]

KEPT = 1 << 16
"""Bytes of what a program prints that are kept."""
AT_ONCE = 4096
"""Bytes that a pipe takes without a reader."""


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and all that it started."""
    if process.returncode is not None:
        return
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


# ---- what a program prints


class _Reader:
    """Reads a pipe to its end, in a thread, and keeps the first or the last of it.

    The descriptor is one of its own: the program may have left something behind that holds the
    pipe open for longer than anybody waits.
    """

    def __init__(self, pipe: int, *, last: bool) -> None:
        self.kept, self.last, self.cut = b"", last, False
        self.pipe = os.dup(pipe)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self.pipe, KEPT):
                kept = self.kept + chunk
                self.cut |= len(kept) > KEPT
                self.kept = kept[-KEPT:] if self.last else kept[:KEPT]
        finally:
            os.close(self.pipe)

    def text(self) -> str:
        """What was kept; without its first word if that may be half of one."""
        text = self.kept.decode(errors="replace")
        return " ".join(text.split(maxsplit=1)[1:]) if self.cut and self.last else text


def _write(pipe: int, given: bytes) -> None:
    """Write all of it, unless nobody reads any more, and close the pipe."""
    try:
        while given:
            given = given[os.write(pipe, given) :]
    except BrokenPipeError:
        pass
    finally:
        os.close(pipe)


def answer(
    process: subprocess.Popen[bytes], given: bytes | None, timeout: float | None
) -> tuple[str, str]:
    """The last of what a program prints on stdout, the first of what it prints on stderr.

    Parameters
    ----------
    process : subprocess.Popen
        A program with pipes, just started.
    given : bytes, optional
        Its stdin.
    timeout : float, optional
        Seconds until it, and whatever shares its pipes, must have ended.

    Raises
    ------
    subprocess.TimeoutExpired
        If that takes longer.
    """
    if process.stdout is None or process.stderr is None:
        raise ValueError("expected a program with pipes for stdout and stderr")
    until = None if timeout is None else time.monotonic() + timeout
    readers = [
        _Reader(process.stdout.fileno(), last=True),
        _Reader(process.stderr.fileno(), last=False),
    ]
    if given is not None and process.stdin is not None:
        pipe = os.dup(process.stdin.fileno())
        process.stdin.close()
        if len(given) <= AT_ONCE:
            _write(pipe, given)
        else:
            threading.Thread(target=_write, args=(pipe, given), daemon=True).start()
    for reader in readers:  # first: a program that was waited for can no longer be killed
        reader.thread.join(None if until is None else max(0.0, until - time.monotonic()))
        if timeout is not None and reader.thread.is_alive():
            raise subprocess.TimeoutExpired(process.args, timeout)
    process.wait(None if until is None else max(0.0, until - time.monotonic()))
    return readers[0].text(), readers[1].text()


# ---- what is left when the run is killed


_WATCH = """
import os, signal, sys
running = set()
for line in sys.stdin.buffer:
    number = int(line)
    running.add(number) if number > 0 else running.discard(-number)
for number in running:
    try:
        os.killpg(number, signal.SIGKILL)
    except OSError:
        pass
"""


class Watchdog:
    """A process that kills the programs of a run which has died without doing so.

    It hears of each one that starts (+ its number) and ends (-), by a pipe whose end is the end
    of the run. There is none where there are no process groups.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if hasattr(os, "killpg") and sys.executable and not getattr(sys, "frozen", False):
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _WATCH],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,  # Ctrl-C is not for it
                )

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """A program has started."""
        self._say(process.pid)

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """It has ended, or was killed."""
        self._say(-process.pid)

    def _say(self, number: int) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # dead, or closed
                self._process.stdin.write(b"%d\n" % number)

    def close(self) -> None:
        """Let it end; it kills what was not told to have ended."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
