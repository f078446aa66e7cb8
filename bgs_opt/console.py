"""What all commands share: exit codes, errors and warnings as one line, signals, tables."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt import plots
from bgs_opt.arguments import flagged
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSError, BGSWarning

__all__ = [
    "check_picture",
    "explained",
    "fail",
    "plain",
    "running",
    "same_folder",
    "table",
]

SHOWN = 8
"""Numbers of a vector that a table shows."""


def fail(code: int, text: str) -> int:
    """Print an error as one line; return the exit code."""
    print("bgs-opt: error:", " ".join(text.split()), file=sys.stderr)
    return code


def explained(error: BaseException, flagged: Callable[[str], str] = flagged) -> tuple[int, str]:
    """Exit code of an exception and a line that says what to do.

    ``flagged`` gives a message about arguments the names that they have on the command line.
    """
    notes = [str(note) for note in getattr(error, "__notes__", [])]
    raised = any(note.startswith("bgs_opt: raised by fun") for note in notes)
    if isinstance(error, (ArgumentValueError, ArgumentTypeError)) and not raised:
        return 2, flagged(str(error))
    if isinstance(error, KeyboardInterrupt):
        return 1, "interrupted"
    if isinstance(error, SystemExit):
        return 1, f"the objective called sys.exit({error.code!r}); return nan for a failed point"
    if isinstance(error, BGSError):
        return 1, str(error)
    what = f"{type(error).__name__}: {error}"
    if not raised:
        return 1, what if isinstance(error, OSError) else f"{what} (--traceback shows where)"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)  # ours if it was raised in another process
    where = "" if file.parent == Path(__file__).parent else f" ({file.name}, line {frame.lineno})"
    return 1, f"the objective raised {what}{where}; --traceback shows more"


def check_picture(option: str, path: str) -> None:
    """See that a picture can be drawn there, before there is anything to draw."""
    try:
        plots.check_path(path)
    except (ImportError, ValueError) as error:
        raise ArgumentValueError(f"{option}: {str(error).removeprefix('path: ')}") from error


@contextlib.contextmanager
def running(args: argparse.Namespace) -> Iterator[bool]:
    """What is around a run, as --quiet, --json and --progress say; whether it shows a bar."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals())
        stack.enter_context(_our_warnings(args.quiet))
        if args.json:
            stack.enter_context(_stdout_to_stderr())
        yield bool(not args.quiet and (args.progress or sys.stderr.isatty()))


@contextlib.contextmanager
def same_folder() -> Iterator[None]:
    """Be in the same folder afterwards, if it is there: what is evaluated may go to another."""
    here = None
    with contextlib.suppress(OSError):
        here = os.getcwd()
    try:
        yield
    finally:
        if here is not None:
            with contextlib.suppress(OSError):
                os.chdir(here)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: with a checkpoint and no orphans."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    heeded = [n for n in known if signal.getsignal(n) not in (signal.SIG_IGN, None)]  # nohup
    previous = {n: signal.signal(n, _as_interrupt) for n in heeded}
    if heeded and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by a script's &
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _as_interrupt(number: int, frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _our_warnings(quiet: bool) -> Iterator[None]:
    """Warnings of bgs_opt as one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "always", BGSWarning)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, BGSWarning):
                print("bgs-opt: warning:", " ".join(str(message).split()), file=sys.stderr)
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Whatever the objective prints, in worker processes too, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def table(facts: dict[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:{width}}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        numbers = [f"{number:.6g}" for number in value[: SHOWN + 1].tolist()]
        more = [f"... ({len(value)} numbers; --output or --json: all of them)"]
        return " ".join(numbers if len(value) <= SHOWN else numbers[:-1] + more)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (bool, np.bool_)) or value is None:
        return "-" if value is None else "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """What JSON can say: NaN and infinities become null."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else repr(value)
