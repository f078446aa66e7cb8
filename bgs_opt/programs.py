"""External programs: what one prints, within bounds, and that none outlives the run.

A program leads a process group, so that it can be killed with all that it starts. A run that is
killed itself can kill nothing any more; then a second process does, which waits for that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import IO

__all__ = ["Watchdog", "answer", "kill"]

KEPT = 1 << 16
"""Bytes of what a program prints that are kept."""
AT_ONCE = 4096
"""Bytes that a pipe takes without a reader."""
MARK = "BGS_OPT_PROGRAM"
"""In the environment of a program: which one it is."""
_HALF = re.compile(r"^[\w.+-]*")


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

    def __init__(self, pipe: IO[bytes], *, last: bool) -> None:
        self.kept, self.last, self.cut = b"", last, False
        self.pipe = os.dup(pipe.fileno())
        self.thread = threading.Thread(target=self._read, daemon=True)
        try:
            self.thread.start()
        except BaseException:
            os.close(self.pipe)
            raise
        pipe.close()

    def _read(self) -> None:
        try:
            while chunk := os.read(self.pipe, KEPT):
                kept = self.kept + chunk
                self.cut |= len(kept) > KEPT
                self.kept = kept[-KEPT:] if self.last else kept[:KEPT]
        finally:
            os.close(self.pipe)

    def text(self) -> str:
        """What was kept, but for half a number at its begin."""
        text = self.kept.decode(errors="replace")
        return _HALF.sub("", text, count=1) if self.cut and self.last else text


def _write(pipe: int, given: bytes) -> None:
    """Write all of it, unless nobody reads any more, and close the pipe."""
    try:
        while given:
            given = given[os.write(pipe, given) :]
    except OSError:  # EPIPE, and EINVAL in Windows
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
    readers = [_Reader(process.stdout, last=True), _Reader(process.stderr, last=False)]
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
import os, signal, sys, time
running = {}
for line in sys.stdin.buffer:
    number, pid = map(int, line.split())
    if pid < 0:
        running.pop(number, None)
    else:
        running[number] = pid
marks = [f"{sys.argv[1]}-{number}\\0".encode() for number in running]
def kill(function, pid):
    try:
        function(pid, signal.SIGKILL)
    except OSError:
        pass
def marked(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read()
    except OSError:
        return False
    return any(mark in text for mark in marks)
for pid in running.values():
    if pid:
        kill(os.killpg, pid)
for _ in range(20 if running and os.path.isdir("/proc/self") else 0):
    for name in os.listdir("/proc"):
        if name.isdigit() and marked(name):
            kill(os.kill, int(name))
    time.sleep(0.05)  # one that was just being started shows its mark a little later
"""


class Watchdog:
    """A process that kills the programs of a run which has died without doing so.

    It hears of each one that is about to start, that has started and that has ended, by a pipe
    whose end is the end of the run. Where the system shows environments (Linux) it knows them,
    and all that they have started, by a mark in theirs; elsewhere by their process group. Where
    there are no process groups, and with ``alive=False``, there is no such process.
    """

    def __init__(self, *, alive: bool = True) -> None:
        self._name = f"{os.getpid()}-{time.monotonic_ns()}"
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        possible = hasattr(os, "killpg") and sys.executable and not getattr(sys, "frozen", False)
        if alive and possible:
            ours = {name: value for name, value in os.environ.items() if name != MARK}
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _WATCH, f"{MARK}={self._name}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    env=ours,  # of a run within a run: it has to outlive its own
                    start_new_session=True,  # Ctrl-C is not for it
                )

    def starting(self) -> tuple[int, dict[str, str]]:
        """Number and environment of a program that is about to start."""
        number = next(self._numbers)
        self._say(number, 0)
        return number, {**os.environ, MARK: f"{self._name}-{number}"}

    def started(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """It has started."""
        self._say(number, process.pid)

    def ended(self, number: int) -> None:
        """It has ended, was killed, or could not be started."""
        self._say(number, -1)

    def _say(self, number: int, pid: int) -> None:
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError, ValueError):  # dead, or closed
                    self._process.stdin.write(b"%d %d\n" % (number, pid))

    def close(self) -> None:
        """Let it end; it kills what was not told to have ended."""
        if self._process is not None and self._process.stdin is not None:
            with self._lock:
                self._process.stdin.close()
            self._process.wait()
