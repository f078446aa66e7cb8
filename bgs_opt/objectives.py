"""Objectives that a command line can name: MODULE:FUNCTION, or an external program."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bgs_opt.errors import ArgumentValueError, BGSError, BGSWarning
from bgs_opt.programs import Watchdog, answer, kill
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import integer, real

__all__ = ["Program", "ProgramError", "imported"]

_PLACEHOLDER = re.compile(r"\{(?:file|seed|)\}")
_NUMBER = re.compile(
    r"(?<![\w.+-])[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[ed][-+]?\d+)?|nan|inf(?:inity)?)(?!\w|\.\w)", re.I
)
"""A number that stands by itself: not the 1 of x1, 1.2.3 or 2024-01-05; 1.5D-3 is Fortran's."""


class ProgramError(BGSError, RuntimeError):
    """An external program gave no value."""


class Program:
    """An external program as a function of x; safe to call from several threads.

    Parameters
    ----------
    command : str
        Split into words as a shell would, and run without one. In each word ``{file}`` becomes
        the path of a file with one number a line, ``{seed}`` the seed, and ``{}`` the numbers
        with spaces between; a word that is ``{}`` and nothing else becomes one word a number.
        Without any of them the numbers go to stdin, one a line. The value is the last number
        that the program prints on stdout; of what it prints 64 KiB are kept.
    timeout : float, optional
        Seconds after which the program is killed, with all that it started.
    retries : int
        How often it is started again for a point that it was killed at.
    strict : bool
        Whether a failure (status other than 0, killed) raises ProgramError instead of being the
        value NaN and, the first time, a warning.

    Raises
    ------
    ArgumentValueError
        If there is no such program.
    """

    def __init__(
        self,
        command: str,
        timeout: float | None = None,
        retries: int = 1,
        strict: bool = False,
    ) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ArgumentValueError(
                f"command: expected words; got {command!r}: {error}"
            ) from None
        self.name = self.words[0] if self.words else ""
        if shutil.which(self.name) is None:
            raise ArgumentValueError(
                f"command: expected a program that exists (by its path, ./name, if it is in this "
                f"folder); got {self.name!r}"
            )
        self.timeout = None if timeout is None else real("timeout", timeout, 0, open_low=True)
        self.tries = 1 + integer("retries", retries, 0)
        self.strict = strict
        self.takes = {key for word in self.words for key in _PLACEHOLDER.findall(word)}
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._watchdog: Watchdog | None = None
        self._closed = self._warned = False

    def __call__(self, x: FloatArray, seed: int = 0) -> float:
        """Run the program for one point of shape (d,)."""
        numbers = [repr(float(value)) for value in x]
        lines = "".join(f"{number}\n" for number in numbers)
        filled = {"{}": " ".join(numbers), "{seed}": str(seed)}
        with contextlib.ExitStack() as stack:
            if "{file}" in self.takes:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bgs_opt_"))
                filled["{file}"] = os.path.join(folder, "x.txt")
                Path(filled["{file}"]).write_text(lines, "ascii")
            words: list[str] = []
            for word in self.words:
                text = _PLACEHOLDER.sub(lambda match: filled[match[0]], word)
                words += numbers if word == "{}" else [text]
            given = None if self.takes else lines.encode()
            problem = printed = ""
            for _ in range(self.tries):
                problem, killed, printed = self._run(words, given)
                if not killed:
                    break
        return self._failed(problem) if problem else self._value(printed)

    def _run(self, words: list[str], given: bytes | None) -> tuple[str, bool, str]:
        """What went wrong, if anything; whether it was killed; what it printed."""
        watchdog = self._watchdog or Watchdog(alive=False)
        number, environment = watchdog.starting()
        try:
            with self._lock:
                if self._closed:
                    return "was stopped", False, ""
                process = self._started(words, given, environment)
                self._running.add(process)
            watchdog.started(number, process)
            return self._outcome(process, given)
        finally:
            watchdog.ended(number)

    def _outcome(
        self, process: subprocess.Popen[bytes], given: bytes | None
    ) -> tuple[str, bool, str]:
        with process:
            try:
                out, err = answer(process, given, self.timeout)
            except BaseException as error:
                kill(process)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return f"gave no value within {self.timeout:g} s", True, ""
            finally:
                with self._lock:
                    self._running.discard(process)
        status = process.returncode
        if status < 0:
            return f"was killed by signal {-status}", True, ""
        said = err.strip().splitlines()[:1]
        problem = ": ".join([f"ended with status {status}", *said]) if status else ""
        return problem, False, out

    def _started(
        self, words: list[str], given: bytes | None, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # a group of its own, so that all of it can be killed
            )
        except OSError as error:
            raise ProgramError(
                f"{self.name} could not be started ({error.strerror}); a script needs #! in its "
                "first line, and very many numbers fit into {file} or stdin (no placeholder)"
            ) from error

    def _value(self, printed: str) -> float:
        for line in reversed(printed.splitlines()):
            if found := _NUMBER.findall(line):
                return float(found[-1].lower().replace("d", "e"))
        raise ProgramError(
            f"{self.name} printed no number; the last number on its stdout must be the value (nan "
            "for a point that failed)"
        )

    def _failed(self, problem: str) -> float:
        if self.strict:
            raise ProgramError(f"{self.name} {problem}")
        with self._lock:
            first = not (self._warned or self._closed)
            self._warned = True
        if first:
            warnings.warn(
                f"{self.name} {problem}; such points count as failed (--strict: as an error)",
                BGSWarning,
                stacklevel=3,
            )
        return math.nan

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Threads to run it in; at whatever end, no program of theirs goes on."""
        with ThreadPoolExecutor(integer("workers", count, 1, 4096)) as executor:
            self._watchdog = Watchdog()
            try:
                yield executor
            finally:
                self.close()
                self._watchdog.close()

    def close(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                kill(process)


def imported(target: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names; MODULE may lie in the current folder.

    Parameters
    ----------
    target : str
        For instance ``package.module:Class.method``.

    Raises
    ------
    ArgumentValueError
        If there is none, or the module raises while it is imported.

    Examples
    --------
    >>> imported("math:fsum")([0.5, 0.25])
    0.75
    """
    name, _, path = target.partition(":")
    if not name or not path or name.endswith(".py"):
        raise ArgumentValueError(
            f"MODULE:FUNCTION: expected a name such as mymodel:loss; got {target!r}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(name)
    except Exception as error:
        why = f"raised {type(error).__name__} while it was imported: {error}"
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            why = "is neither in this folder nor on the Python path"
        raise ArgumentValueError(f"MODULE:FUNCTION: the module {name!r} {why}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ArgumentValueError(f"MODULE:FUNCTION: {name!r} has no {path!r}; check its name")
        found = getattr(found, part)
    if not callable(found):
        raise ArgumentValueError(
            f"MODULE:FUNCTION: expected a function; {target} is a {type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]
