"""Opening a generation: how many evaluations of the center and of pairs it waits for, and its
sigma.

Generation 0 may consist of repeated evaluations of the start, which say whether the objective
is noisy.
"""  # noqa: D205

from __future__ import annotations

import math

import numpy as np

from bgs_opt import automatic
from bgs_opt.automatic import AutomaticState
from bgs_opt.config import Config
from bgs_opt.directions import QR
from bgs_opt.gradient import norm
from bgs_opt.orthogonal import Orthogonal
from bgs_opt.pairs import Pairs
from bgs_opt.protocols import FloatArray
from bgs_opt.sigma import CumulativeAdaptation, clamp
from bgs_opt.state import Generation, State

__all__ = [
    "calibrate",
    "first_generation",
    "jump",
    "next_generation",
    "reopen",
    "rescue",
    "start_evaluations",
]

ROUNDING = 1e-12  # differences below this share of the values are not noise, ...
APART = 1e-9  # ... nor those below this share of what sigma does to the values
HAIR = 1e-9  # relative difference of sigma between generations where points must be distinct
HAIRS = 512  # after so many they begin anew


def start_evaluations(config: Config) -> int:
    """How many evaluations of the start generation 0 consists of; 0: it is an ordinary one."""
    options = config.options
    if options.start_evaluations or config.optimizer is not None or options.noisy is False:
        return options.start_evaluations
    return automatic.start_evaluations(config.budget)


def first_generation(config: Config, center: FloatArray) -> State:
    """State before anything was asked."""
    options = config.options
    starts = start_evaluations(config)
    state = State(
        center=center,
        sigma=config.sigma,
        open=_start(config, center, 0, 0),
        average=center.copy() if options.averaging else None,
        noisy=options.noisy,
        optimizer=config.optimizer.init(center) if config.optimizer else {},
    )
    if isinstance(config.sigma_rule, CumulativeAdaptation):
        state.path = config.sigma_rule.init(center)
    if not starts:
        if config.optimizer is None:
            _start_automatic(config, state, 0.0)
        state.open = next_generation(config, state, 0)
    return state


def _start(config: Config, center: FloatArray, number: int, hair: int) -> Generation:
    """Evaluations of the start, with pairs beside them where workers are idle otherwise."""
    options = config.options
    starts, workers = start_evaluations(config), options.num_workers
    beside = -(-workers // 2) if workers > starts else int(options.distinct)
    return Generation(
        number, config.sigma, starts, beside, options.repeats, center, None, start=starts > 0,
        patience=options.patience, hair=hair if options.distinct else -1,
    )  # fmt: skip


def _start_automatic(config: Config, state: State, noise: float | None) -> AutomaticState:
    state.automatic = automatic.init(
        config.dim, config.sigma, budget=config.budget, noise=noise, dtype=config.dtype,
        exact=isinstance(config.sampler, (QR, Orthogonal)), floor=_floor(config, state.center),
        ceiling=_ceiling(config), workers=config.options.num_workers,
    )  # fmt: skip
    return state.automatic


def _ceiling(config: Config) -> float | None:
    """Largest sigma of the automatic rule: few points of a box's middle may be beyond its walls.

    A third of the narrowest half width, at most 1000 times the start and at least the start; None
    where there is none.
    """
    most = config.options.max_sigma
    if config.low is None or config.high is None:
        return most
    with np.errstate(over="ignore"):  # a width beyond the largest number is an open side
        width = config.high - config.low
        half = width / 2 if config.scale is None else width / 2 / config.scale
    if not np.isfinite(width).all():
        return most
    third = float(np.min(half, initial=3e3 * config.sigma, where=half > 0)) / 3
    widest = max(config.sigma, third) if (half > 0).any() else config.sigma
    return widest if most is None else min(widest, most)


def _floor(config: Config, center: FloatArray) -> float:
    """Smallest sigma of the automatic rule: rounding of the coordinates must not show."""
    size = norm(center) / math.sqrt(config.dim) if center.any() else config.sigma
    return max(1e-12 * config.sigma, 16 * float(np.finfo(config.dtype).eps) * size)


def next_generation(config: Config, state: State, number: int) -> Generation:
    """Open the generation ``number``."""
    options = config.options
    hair, apart = -1, 1.0
    if options.distinct:  # where the center stays, too
        hair, apart = (
            (state.open.hair + state.open.num_center) % HAIRS,
            1 + HAIR * (number % HAIRS),
        )
    if state.automatic is not None:
        plan = automatic.plan(state.automatic)
        sigma, _ = clamp(plan.sigma, *config.sigma_limits)
        state.sigma = state.automatic.sigma = sigma
        probe = None if plan.probe is None else plan.probe.astype(config.dtype, copy=False)
        centers = max(plan.center_evaluations, options.center_evaluations)
        basis = config.dim if plan.basis else 0
        return Generation(
            number, sigma * apart, centers, plan.num_directions, options.repeats, state.center,
            probe, plan.required, basis, options.patience, hair=hair,
        )  # fmt: skip
    return Generation(
        number, state.sigma * apart, options.baseline_evaluations, config.num_directions,
        options.repeats, state.center, None, patience=options.patience, hair=hair,
    )  # fmt: skip


def calibrate(config: Config, state: State, centers: FloatArray, pairs: Pairs) -> bool:
    """Whether and how noisy the objective is, from repeated evaluations of the start.

    Returns whether ``pairs``, evaluated beside them, are as many as a step needs.
    """
    variance = None
    if len(centers) >= 2:
        largest = float(np.abs(centers).max()) or 1.0
        variance = float(np.var(centers / largest, ddof=1))
        least = ROUNDING**2
        if config.options.distinct:  # they were a little apart
            values = np.concatenate([centers, pairs.plus, pairs.minus]) / largest
            with np.errstate(over="ignore"):
                least = max(least, (APART * float(np.ptp(values))) ** 2)
        noisy = variance > least
        if state.noisy is None:
            state.noisy = noisy  # before the square of a huge or tiny unit is lost
        variance = variance * largest * largest if noisy else 0.0
        if not math.isfinite(variance):
            variance = None
    if state.noisy:
        variance = variance or None
    elif state.noisy is False:
        variance = 0.0
    if config.optimizer is not None:
        return len(pairs) >= config.num_directions
    rule = _start_automatic(config, state, variance)
    return len(pairs) >= automatic.plan(rule).num_directions


def jump(config: Config, state: State) -> None:
    """Go to the best point seen, and start from there."""
    if state.best_x is None:
        return
    state.center, state.jump = state.best_x, False
    state.open.hair += int(config.options.distinct)
    if state.automatic is not None:
        automatic.restart(state.automatic)


def rescue(config: Config, state: State) -> Generation | None:
    """Go to the best point from a center that failed whenever it was evaluated.

    Returns the next generation if noise has to be looked for there.
    """
    jump(config, state)
    if state.automatic is None or state.noisy is not None or not start_evaluations(config):
        return None
    state.automatic = None
    number, hair = state.open.number + 1, state.open.hair + state.open.num_center
    return _start(config, state.center, number, hair)


def reopen(config: Config, state: State) -> None:
    """Open the generation again of which nothing was handed out, at another center."""
    if state.automatic is not None:
        state.open = next_generation(config, state, state.open.number)
    else:
        state.open.center = state.center
