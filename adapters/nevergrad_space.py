"""What the search has to know of a parametrization: bounds, steps, whether it is random."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.nevergrad", extra="nevergrad"):
    import nevergrad as ng

__all__ = ["Box", "Vector", "box_of", "sampled", "start_of"]

Vector = npt.NDArray[np.float64]

ASIDE = 1e-3  # how far from an edge a search over steps starts
REACH = 6.0  # bounds farther from the start than this are left to Nevergrad


class Box(NamedTuple):
    """Bounds of the standardized space about the start, each of shape (d,)."""

    low: Vector
    high: Vector
    widest: Vector  # sigma: a third of the half width


def sampled(parametrization: Any) -> bool:
    """Whether values are drawn at random, as those of a Choice."""
    return not ng.p.helpers.analyze(parametrization).deterministic


def start_of(parametrization: Any, box: Box | None) -> Vector:
    """Where the search starts: at Nevergrad's own start, 0, but beside an edge of steps.

    Evaluations of the start are a hair apart, and the start of an even number of steps is the
    edge between two of them: without noise the values would differ.
    """
    start = np.where(_steps(parametrization), -ASIDE, 0.0)
    return start if box is None else np.clip(start, box.low, box.high)


def _steps(parametrization: Any) -> npt.NDArray[np.bool_]:
    """Which coordinates are rounded to steps."""
    if isinstance(parametrization, ng.p.Container):
        parts = [_steps(part) for _, part in sorted(parametrization._content.items())]
        return np.concatenate([np.zeros(0, bool), *parts])
    steps = not ng.p.helpers.analyze(parametrization).continuous
    return np.full(parametrization.dimension, steps)


def box_of(parametrization: Any) -> Box | None:
    """Distances that Nevergrad leaves points at, as bounds; None where it leaves all.

    They are found by sending points to Nevergrad and back; beyond REACH there is no bound, nor
    where points come back rounded (TransitionChoice), but from beyond.
    """

    def back(point: Vector) -> Vector:
        child = parametrization.spawn_child()
        with ng.p.helpers.deterministic_sampling(child):
            child.set_standardized_data(point)
        return np.asarray(child.get_standardized_data(reference=parametrization))

    sides = []
    for sign in (-1.0, 1.0):
        inside = np.zeros(parametrization.dimension)
        outside = np.full_like(inside, REACH)
        farthest = sign * back(sign * outside)
        free = np.abs(farthest - outside) < 1e-3
        for _ in range(0 if free.all() else 30):
            middle = (inside + outside) / 2
            good = np.abs(back(sign * middle) - sign * middle) < 1e-3
            inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
        free |= farthest > inside + 1e-2
        sides.append(sign * np.where(free, np.inf, inside))
    low, high = sides
    if not np.isfinite(sides).any():
        return None
    about = ng.p.helpers.analyze(parametrization)
    share = 6.0 if about.continuous and about.deterministic else 4.0  # neighbours are reached
    wide = np.where(np.isfinite(low) & np.isfinite(high), (high - low) / share, np.inf)
    return Box(low, high, np.maximum(wide, 1e-3))
