"""One generation after the other, until something says stop; the file and the bar beside it."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bgs_opt.driver import MESSAGES as _OF_RUNS
from bgs_opt.errors import BGSWarning
from bgs_opt.start import Keeper
from bgs_opt.validation import integer, real

from .policy_keeping import save
from .policy_training import Training

__all__ = ["MESSAGES", "Limits", "bar_of", "limits_of", "run"]

MESSAGES = {
    "target": (True, "the target return was reached"),
    "generations": _OF_RUNS["maxiter"][1:],
    "episodes": (True, "the number of episodes is reached"),
    "max_time": _OF_RUNS["max_time"][1:],
    "log": (True, "`log` returned True"),
    "sigma": _OF_RUNS["sigma"][1:],
    "stalled": (False, "no generation of late had a usable pair of finite returns"),
    "interrupted": _OF_RUNS["interrupted"][1:],
}
"""Success and message of each way to end."""


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


def run(training: Training, limits: Limits, path: Path | None, seconds: float, bar: Any) -> str:
    """Take generations until one of the MESSAGES applies; return its name.

    The training is kept in the file ``path``, if there is one, every so many seconds.
    """
    keeper = Keeper(path, seconds)
    keeper.start(functools.partial(save, training))
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
            keeper.changed = True
            if keeper.due():
                _keep(training, keeper)
            if training.team.ranks.from_first(wants_to_stop):
                reason = "log"
        if training.is_unevaluated():
            training.evaluate()
    except KeyboardInterrupt:
        reason = "interrupted"
    finally:
        _keep(training, keeper)
    return reason


def _keep(training: Training, keeper: Keeper) -> None:
    if trouble := keeper.save(functools.partial(save, training)):
        warnings.warn(trouble, BGSWarning, stacklevel=2)


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


def bar_of(show: bool, limits: Limits, training: Training) -> Any:
    """A bar of generations, or of episodes where they are the limit."""
    total = limits.generations if limits.episodes is None else limits.episodes
    initial = training.opt.generation if limits.episodes is None else training.progress.episodes
    unit = "generation" if limits.episodes is None else "episode"
    return tqdm(total=total, initial=initial, disable=not show, unit=unit, desc="train")


def _show(bar: Any, training: Training, limits: Limits) -> None:
    progress = training.progress
    row = progress.rows[-1]
    done = training.opt.generation if limits.episodes is None else progress.episodes
    shown = {"return": f"{row['mean_return']:.4g}"}
    if math.isfinite(progress.best):
        shown["evaluation"] = f"{progress.best:.4g}"
    bar.set_postfix(shown, refresh=False)
    bar.update(done - bar.n)
