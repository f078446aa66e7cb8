"""Where a run of minimize() starts: at x0 with a sigma, or from the file that it is kept in.

What other runs that are kept in a file share with it is here too.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt.bgs import BGS
from bgs_opt.box import bounds_of, sides_of
from bgs_opt.errors import ArgumentValueError
from bgs_opt.options import Options
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import real_vector, wrong_type, wrong_value

__all__ = [
    "SIGMA_SHARE",
    "Keeper",
    "checkpoint_of",
    "options_of",
    "resumed",
    "same_run",
    "start_of",
]

SIGMA_SHARE = 0.3
"""Start sigma as a share of the bounds' half width, or of the size of x0 without bounds."""


def start_of(
    x0: npt.ArrayLike | None, bounds: object, sigma: float | None
) -> tuple[FloatArray, float, FloatArray | None]:
    """Start, sigma, and the scale of each coordinate where finite bounds give one."""
    if x0 is None and bounds is None:
        wrong_value("x0", "a start, or finite bounds to take the middle of", None)
    start = _middle(bounds) if x0 is None else real_vector("x0", x0)
    low, high = bounds_of(bounds, len(start), start.dtype)
    if sigma is not None:
        return start, sigma, None
    if low is not None and high is not None and np.isfinite([low, high]).all():
        half = high / 2 - low / 2
        widest = float(half.max())
        if widest > 0:
            share = np.where(half > 0, half / widest, 1.0).astype(start.dtype)
            return start, SIGMA_SHARE * widest, None if (share == 1).all() else share
    return start, SIGMA_SHARE * (_size(start) or 1.0), None


def _size(x: FloatArray) -> float:
    """Root mean square, without overflow; 0 where it is not a number > 0."""
    largest = float(np.abs(x).max())
    if not 0 < largest < math.inf:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(x / largest))))


def _middle(bounds: object) -> FloatArray:
    """The middle of finite bounds, of shape (d,)."""
    expected = "(low, high), each a scalar or of shape (d,), or scipy.optimize.Bounds"
    sides = sides_of(bounds, expected)
    try:
        low, high = np.broadcast_arrays(*(np.atleast_1d(np.asarray(s, float)) for s in sides))
    except (TypeError, ValueError):
        wrong_type("bounds", expected, bounds)
    bounds_of((low, high), low.size)  # not NaN, not swapped
    if not np.isfinite([low, high]).all():
        wrong_value("x0", "a start, as the bounds are not finite", None)
    middle: FloatArray = np.clip(low / 2 + high / 2, low, high)
    return middle


def options_of(given: Mapping[str, Any], caller: Callable[..., Any]) -> Options:
    """The options among further arguments of ``caller``, all of which BGS has to know."""
    known = _keywords(BGS)
    if unknown := sorted(set(given) - known):
        names = sorted(known | _keywords(caller))
        wrong_type(unknown[0], "one of " + ", ".join(names), given[unknown[0]])
    options = given.get("options", Options())
    if not isinstance(options, Options):
        wrong_type("options", "a bgs_opt.Options", options)
    return options


def _keywords(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}


def checkpoint_of(checkpoint: object, resume: bool) -> Path | None:
    """Path of the checkpoint, which can be written or may be resumed.

    It is absolute, as what is evaluated may go to another folder.
    """
    if checkpoint is None:
        if resume:
            wrong_value("checkpoint", "the path of the run to resume", None)
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        wrong_type("checkpoint", "a path", checkpoint)
    path = Path(checkpoint)
    if path.exists() and not resume:
        wrong_value(
            "checkpoint", "a new path; or resume=True to continue the run that it holds", str(path)
        )
    if not path.resolve().parent.is_dir():
        wrong_value("checkpoint", "a path in a folder that exists", str(path))
    return path.absolute()


def resumed(opt: BGS, path: Path, *, seeded: bool) -> BGS:
    """The run that the checkpoint holds, after a check that it is the same run."""
    kept = BGS.load(path)
    same_run(opt.differs(kept, seeded=seeded), path)
    kept.set_budget(opt.budget)
    return kept


def same_run(different: list[str], path: Path) -> None:
    """See that there is no argument in which a run differs from the one that a file holds."""
    if different:
        raise ArgumentValueError(
            f"{', '.join(different)}: expected what the run in {path} was started with (or "
            "another path); got something else"
        )


class Keeper:
    """Keeps a run in its checkpoint, if it has one; ``write(path)`` writes it."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self.new = path is not None and not path.exists()
        self.changed = False  # since it was written
        self.written = 0.0

    def start(self, write: Callable[[Path], object]) -> None:
        """Write the file for the first time, which shows that it can be written."""
        self.written = time.monotonic()
        if self.path is not None:
            write(self.path)

    def due(self) -> bool:
        """Whether it is time to write it again."""
        return self.changed and time.monotonic() - self.written >= self.seconds

    def save(self, write: Callable[[Path], object]) -> str:
        """Write it; what went wrong, if anything, is no reason to end a run."""
        self.written, self.changed = time.monotonic(), False
        if self.path is not None:
            try:
                write(self.path)
            except OSError as error:
                return f"checkpoint: {self.path} stays as it was, as saving failed ({error})"
        return ""

    def forget(self) -> None:
        """Remove the file of a run that has found nothing, if there was none before."""
        if self.new and self.path is not None:
            self.path.unlink(missing_ok=True)
