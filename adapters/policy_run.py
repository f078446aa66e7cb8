"""One generation after the other, until something says stop; the file and the bar beside it."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bgs_opt.errors import BGSWarning
from bgs_opt.validation import integer, real

from .policy_keeping import save
from .policy_training import COLUMNS, Training

__all__ = ["MESSAGES", "Keeper", "Limits", "bar_of", "limits_of", "run"]

MESSAGES = {
    "target": (True, "the target return was reached"),
    "generations": (True, "the number of generations is reached"),
    "episodes": (True, "the number of episodes is reached"),
    "max_time": (True, "the time is up"),
    "log": (True, "`log` returned True"),
    "sigma": (True, "sigma no longer changes the center"),
    "stalled": (False, "no generation of late had a usable pair of finite returns"),
    "interrupted": (False, "interrupted by the user"),
}


@dataclass(frozen=True)
class Limits:
    """When to stop."""

    generations: int | None
    episodes: int | None
    max_time: float | None
    target: float | None


def limits_of(generations: Any, episodes: Any, max_time: Any, target: Any) -> Limits:
    """When to stop, checked."""
    if generations is episodes is max_time is None:
        generations = 100
    return Limits(
        None if generations is None else integer("generations", generations, 1),
        None if episodes is None else integer("episodes", episodes, 1),
        None if max_time is None else real("max_time", max_time, 0, open_low=True),
        None if target is None else real("target", target),
    )


def run(training: Training, limits: Limits, keeper: Keeper, bar: Any) -> str:
    """Take generations until one of the MESSAGES applies; return its name."""
    reason = ""
    try:
        while not reason:
            reason = training.team.ranks.from_first(_reason(training, limits))
            if reason:
                break
            training.generation()
            if training.is_due():
                training.evaluate()
            wants_to_stop = training.note()
            _show(bar, training, limits)
            keeper.look()
            if training.team.ranks.from_first(wants_to_stop):
                reason = "log"
        if training.is_unevaluated():
            training.evaluate()
    except KeyboardInterrupt:
        reason = "interrupted"
    finally:
        keeper.save()
    return reason


def _reason(training: Training, limits: Limits) -> str:
    """Why to stop now; empty to go on."""
    progress = training.progress
    if limits.target is not None and progress.best >= limits.target:
        return "target"
    if limits.generations is not None and training.opt.generation >= limits.generations:
        return "generations"
    if limits.episodes is not None and progress.episodes >= limits.episodes:
        return "episodes"
    if limits.max_time is not None and progress.seconds >= limits.max_time:
        return "max_time"
    return next(iter(training.opt.stop()), "")


class Keeper:
    """Writes the checkpoint when it is time to, if there is one."""

    def __init__(self, training: Training, path: Path | None, seconds: float) -> None:
        self._training, self._path, self._seconds = training, path, seconds
        self._written = time.monotonic()
        if path is not None and not path.exists():
            save(training, path)  # which shows that it can be written

    def look(self) -> None:
        """Write it if it is time."""
        if time.monotonic() - self._written >= self._seconds:
            self.save()

    def save(self) -> None:
        """Write it; what went wrong, if anything, is no reason to end a run."""
        self._written = time.monotonic()
        if self._path is None:
            return
        try:
            save(self._training, self._path)
        except OSError as error:
            warnings.warn(
                f"checkpoint: {self._path} stays as it was, as saving failed ({error})",
                BGSWarning, stacklevel=2,
            )  # fmt: skip


def bar_of(show: bool, limits: Limits, training: Training) -> Any:
    """A bar of generations, or of episodes where they are the limit."""
    total = limits.generations if limits.episodes is None else limits.episodes
    initial = training.opt.generation if limits.episodes is None else training.progress.episodes
    unit = "generation" if limits.episodes is None else "episode"
    return tqdm(total=total, initial=initial, disable=not show, unit=unit, desc="train")


def _show(bar: Any, training: Training, limits: Limits) -> None:
    progress = training.progress
    row = dict(zip(COLUMNS, progress.rows[-1], strict=True))
    done = training.opt.generation if limits.episodes is None else progress.episodes
    shown = {"return": f"{row['mean_return']:.4g}"}
    if math.isfinite(progress.best):
        shown["evaluation"] = f"{progress.best:.4g}"
    bar.set_postfix(shown, refresh=False)
    bar.update(done - bar.n)
