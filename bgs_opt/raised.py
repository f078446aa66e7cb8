"""Errors of the objective on their way from a worker process to the caller.

An exception that does not unpickle breaks a ProcessPoolExecutor for good, and a long one can be
cut in two by the death of its process, so that its reader waits for ever. Here every error
becomes a short result: the error itself where it travels, else as much of it as does.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bgs_opt.errors import ArgumentTypeError
from bgs_opt.protocols import FloatArray

__all__ = ["Guarded", "Raised", "WorkerTraceback", "pickled_objective"]

_PICKLED_BYTES, _TRACE_BYTES = 8000, 6000
"""Together less than 16 KiB, which a process writes to its pipe at once."""

Function = Callable[[FloatArray, int], float]


class WorkerTraceback(Exception):  # noqa: N818  (as concurrent.futures does it)
    """Where in the worker an error was raised; the cause of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True)
class Raised:
    """What the objective raised, in a form that always pickles, unpickles, and is short."""

    pickled: bytes
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Pack an error; as much of it as can travel, its nearest base class if it cannot."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        short = [line if len(line) < 1000 else f"{line[:1000]}...\n" for line in lines]
        trace = "".join(short).encode(errors="replace")[-_TRACE_BYTES:]
        return cls(_portable(error), trace.decode(errors="replace"))

    def error(self) -> BaseException:
        """Unpack it."""
        try:
            error = _restored(self.pickled)
        except Exception:  # a class that can be imported there and not here
            error = RuntimeError(self.trace.strip().rpartition("\n")[2])
        error.__cause__ = WorkerTraceback(self.trace)
        return error


def _portable(error: BaseException) -> bytes:
    text = _text_of(error)[: _PICKLED_BYTES // 8]
    forms: list[Any] = [error]
    for kind in type(error).__mro__[:-1]:  # all but object
        forms += [(kind, error.args, vars(error)), (kind, error.args, {}), (kind, (text,), {})]
    for form in forms:
        with contextlib.suppress(Exception):
            data = pickle.dumps(form)
            again = _restored(data)
            kind = form[0] if isinstance(form, tuple) else type(error)
            same = type(again) is kind and (form is not error or _text_of(again) == text)
            if same and len(data) <= _PICKLED_BYTES:
                return data
    return pickle.dumps((RuntimeError, (text,), {}))


def _restored(data: bytes) -> BaseException:
    form = pickle.loads(data)
    if isinstance(form, BaseException):
        return form
    kind, args, state = form  # without __init__, which may want other arguments
    error: BaseException = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__


@dataclass(frozen=True)
class Guarded:
    """An objective whose errors are results, so that no error can break a process pool."""

    function: Function

    def __call__(self, x: FloatArray, seed: int) -> float | Raised:
        """Evaluate one point."""
        try:
            return self.function(x, seed)
        except BaseException as error:
            return Raised.of(error)


def pickled_objective(objective: Function) -> bytes:
    """Bytes that a worker process loads.

    Raises
    ------
    ArgumentTypeError
        If it does not pickle.
    """
    try:
        return pickle.dumps(Guarded(objective))
    except Exception as error:
        raise ArgumentTypeError(
            "fun: expected a function that worker processes can import (defined at the top "
            f"level of a module); got one that does not pickle ({error}). Use workers=1 without "
            "timeout, or pass a concurrent.futures.ThreadPoolExecutor as workers"
        ) from error
