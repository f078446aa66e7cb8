"""What the automatic step rule remembers, and where it starts.

Four kinds of generation: SURVEY (is there structure narrower than sigma?), DRIFT (noisy, rough, or
fewer directions than dimensions), NEWTON (a full gradient) and CHECK (a line search).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCKS",
    "CHECK",
    "DRIFT",
    "NEWTON",
    "SCALES",
    "SURVEY",
    "WIDEST",
    "AutomaticState",
    "Values",
    "init",
    "limited",
    "start_evaluations",
]

Array = npt.NDArray[Any]

DRIFT, NEWTON, CHECK, SURVEY = 0, 1, 2, 3  # the kinds of generation
SCALES = 4  # the narrowest scale of a survey is sigma / 2**SCALES
BLOCKS = 4  # blocks of directions at each of its scales under noise
DENSE, LARGEST = 200, 1000  # up to DENSE as many secant pairs as dimensions, up to LARGEST FEW
FEW = 8
WIDEST = 10.0  # how far sigma goes beyond its start where the function looks quadratic
ROUNDS = 16  # rounds of all workers below which there are too few full gradients


class Values(NamedTuple):
    """The values of one generation, in units of the state's scale."""

    plus: Array
    minus: Array
    center: Array


@dataclass
class AutomaticState:
    """All that the rule remembers: floats, ints, bools and arrays."""

    dim: int
    pairs: int  # directions of an ordinary generation
    budget: int  # evaluations in all; -1: unknown
    spent: int
    generation: int
    mode: int
    deterministic: bool
    newton: bool  # full gradients are affordable
    eager: bool  # ... and workers enough to take one at each point of a line search
    watch: bool  # evaluate the center in every generation
    affordable: bool  # a survey under noise: at most a tenth of the budget
    rough: bool  # there is structure narrower than the starting sigma
    sigma: float
    sigma0: float
    floor: float
    ceiling: float
    top: float  # the widest sigma so far
    wide: float  # sigma before a survey
    scale: float  # unit of the values (a power of two; 0: not known yet)
    noise: float  # variance of one evaluation, in units of scale squared
    noise_weight: float
    power: float  # smoothed mean squared difference / (2 noise)
    bend: float  # smoothed lift of the values at sigma over the center's
    rate: float  # step per gradient (0: not known yet)
    slope: float  # DRIFT: length of the last gradient (0: none)
    value: float  # NEWTON: value at the base (nan: not known)
    checks: int  # evaluations of the line search so far
    blocked: bool  # whether one of them failed
    surveyed: int  # the scale that the survey looks at next (-1: none yet)
    count: int  # secant pairs stored so far
    averaged: float  # centers in the average
    ratio: Array  # signal to noise at the surveyed scales
    base: Array  # the last point whose gradient is known
    gradient: Array  # its gradient
    step: Array
    average: Array
    s_pairs: Array
    y_pairs: Array
    bends: Array = field(default_factory=lambda: np.zeros(5))  # sums of width.py


def start_evaluations(budget: int | None) -> int:
    """How often to evaluate the start, to find noise."""
    return 4 if budget is None or budget >= 200 else 2


def init(
    dim: int,
    sigma: float,
    *,
    budget: int | None,
    noise: float | None,
    dtype: npt.DTypeLike,
    exact: bool,
    floor: float,
    ceiling: float | None = None,
    workers: int = 1,
) -> AutomaticState:
    """The state before the first generation.

    Parameters
    ----------
    dim : int
    sigma : float
        Width to start with.
    budget : int, optional
        Evaluations in all.
    noise : float, optional
        Variance of repeated start evaluations: 0.0 only if all were equal; None if not known.
    dtype : dtype
    exact : bool
        Whether d directions are an orthogonal basis.
    floor, ceiling : float
        Of sigma; a ceiling of None is 1000 times the starting sigma.
    workers : int
        Evaluations that go on at the same time: a generation has at least so many.
    """
    known = noise is not None and 1e-290 < noise < 1e290
    deterministic = noise == 0.0
    pairs = min(dim, 64 if budget is None else min(64, max(2, budget // 20)))
    pairs = max(pairs, -(-workers // 2))
    least = max(4 * dim, ROUNDS * workers if workers > 1 else 0)
    newton = exact and deterministic and dim <= LARGEST and (budget is None or budget >= least)
    look = deterministic and (budget is None or budget >= (20 * dim if newton else 60 * pairs))
    zero = np.zeros(dim, dtype=dtype)
    memory = np.zeros(((dim if dim <= DENSE else FEW) if newton else 0, dim), dtype=dtype)
    return AutomaticState(
        dim=dim,
        pairs=dim if newton else pairs,
        budget=-1 if budget is None else budget,
        spent=0,
        generation=0,
        mode=SURVEY if look else NEWTON if newton else DRIFT,
        deterministic=deterministic,
        newton=newton,
        eager=newton and workers > 2 * dim,
        rough=False,
        watch=workers > 1,
        affordable=pairs == dim and (budget is None or budget >= 20 * SCALES * BLOCKS * pairs),
        sigma=sigma,
        sigma0=sigma,
        floor=floor,
        ceiling=1e3 * sigma if ceiling is None else ceiling,
        top=sigma,
        wide=sigma,
        scale=0.0,
        noise=noise if noise is not None and known else 0.0,
        noise_weight=3.0 if known else 0.0,
        power=0.0,
        bend=0.0,
        rate=0.0,
        slope=0.0,
        value=math.nan,
        checks=0,
        blocked=False,
        surveyed=0 if look else -1,
        count=0,
        averaged=0.0,
        ratio=np.zeros(SCALES + 1),
        base=zero,
        gradient=zero.copy(),
        step=zero.copy(),
        average=zero.copy(),
        s_pairs=memory,
        y_pairs=memory.copy(),
    )


def limited(step: Array, limit: float) -> Array:
    """The step, no longer than ``limit``."""
    length = float(np.linalg.norm(step))
    return step * (limit / length) if length > limit else step
