"""The checked, unchanging description of a run: what the constructor's arguments become."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bgs_opt.box import bounds_of
from bgs_opt.optimizers import Adam
from bgs_opt.options import (
    Options,
    layout_of,
    optimizer_of,
    sampler_of,
    selection_of,
)
from bgs_opt.protocols import FloatArray, Layout, Optimizer, Sampler, Schedule
from bgs_opt.sigma import CumulativeAdaptation, factor
from bgs_opt.streams import SeedLike, entropy_of
from bgs_opt.validation import (
    flag,
    integer,
    real,
    real_vector,
    wrong_type,
    wrong_value,
)

__all__ = ["Config", "Factors", "configure", "default_directions", "point_of"]

SigmaRule = Schedule | CumulativeAdaptation | None


class Factors(NamedTuple):
    """What the schedules say of an update; None where there is none."""

    rate: float | None
    sigma: float | None  # of the generation after it


@dataclass(frozen=True, eq=False)
class Config:
    """Everything about a run that does not change.

    ``optimizer`` None is the automatic step rule; ``low`` and ``high`` are both None or both
    of shape (d,); ``scale`` is None or of shape (d,).
    """

    dim: int
    dtype: str
    entropy: int
    maximize: bool
    start: str  # digest of x0
    sigma: float
    num_directions: int
    top_k: int
    sampler: Sampler
    layout: dict[str, tuple[int, ...]]
    mean_weight: float
    optimizer: Optimizer | None
    learning_rate: float
    sigma_rule: SigmaRule
    low: FloatArray | None
    high: FloatArray | None
    scale: FloatArray | None
    budget: int | None
    options: Options

    @property
    def sigma_limits(self) -> tuple[float, float]:
        """Floor and ceiling of sigma, such that no candidate overflows."""
        info = np.finfo(self.dtype)
        low = self.options.min_sigma or max(1e-15 * self.sigma, float(info.tiny))
        high = self.options.max_sigma or 1e6 * self.sigma
        return low, min(high, float(info.max) / 1e3 / math.sqrt(self.dim))

    def factors(self, generation: int) -> Factors:
        """Ask the schedules, which are the user's code and may fail: before anything changes."""
        rule = None if isinstance(self.sigma_rule, CumulativeAdaptation) else self.sigma_rule
        return Factors(
            factor("learning_rate_schedule", self.options.learning_rate_schedule, generation),
            factor("sigma_rule", rule, generation + 1),
        )


def scale_of(scale: object, dim: int, dtype: np.dtype[Any], layout: Layout) -> FloatArray | None:
    """``Options.scale`` as a vector of shape (d,), checked; None stays None."""
    if scale is None:
        return None
    if isinstance(scale, Mapping):
        if set(scale) != set(layout):
            wrong_value("scale", f"a number for each block of layout {sorted(layout)}", scale)
        sizes = [math.prod(shape) for shape in layout.values()]
        scale = np.repeat([real(f"scale[{n!r}]", scale[n]) for n in layout], sizes)
    if isinstance(scale, numbers.Real) or (isinstance(scale, np.ndarray) and scale.ndim == 0):
        scale = np.full(dim, real("scale", scale, 0, open_low=True))
    vector = real_vector("scale", scale)  # type: ignore[arg-type]
    expected = f"shape ({dim},), all finite and > 0"
    if vector.shape != (dim,):
        wrong_value("scale", expected, vector)
    with np.errstate(over="ignore"):
        vector = vector.astype(dtype)
    if (bad := np.flatnonzero(~(np.isfinite(vector) & (vector > 0)))).size:
        wrong_value("scale", expected, f"{vector[bad[0]]} at coordinate {bad[0]}")
    return vector


def _start(x0: npt.ArrayLike, sigma: object) -> tuple[FloatArray, float]:
    center = real_vector("x0", x0)
    _check_finite("x0", center)
    low, high = float(np.finfo(center.dtype).tiny), float(np.finfo(center.dtype).max)
    if np.abs(center).max() > high / 1e3:  # points around it must be finite too
        at = int(np.abs(center).argmax())
        wrong_value("x0", f"numbers up to {high / 1e3:.3g}", f"{center[at]} at coordinate {at}")
    return center, real("sigma", sigma, low, high)


def default_directions(dim: int, budget: int | None, workers: int) -> int:
    """4 + 3 ln d pairs, or what makes eight generations; enough to keep all workers busy."""
    number = 4 + int(3 * math.log(dim))
    number = number if budget is None else max(1, min(number, budget // 16))
    return max(number, -(-workers // 2))


def _check_automatic(given: dict[str, object]) -> None:
    """The automatic rule decides these itself; an option that does nothing is refused."""
    for name, value in given.items():
        if value is not None:
            wrong_value(name, "None with optimizer='auto', which decides it itself", value)


def _check_sigma_rule(sigma_rule: object, optimizer: Optimizer | None) -> None:
    if not isinstance(sigma_rule, CumulativeAdaptation):
        if isinstance(sigma_rule, type) or not (sigma_rule is None or callable(sigma_rule)):
            wrong_type("sigma_rule", "None, a Schedule or CumulativeAdaptation", sigma_rule)
    elif isinstance(optimizer, Adam) or getattr(optimizer, "momentum", 0.0) != 0:
        wrong_value(
            "optimizer",
            "SGD() or ClipUp(momentum=0) with CumulativeAdaptation (momentum makes successive "
            "steps agree by itself, and sigma would grow)",
            optimizer,
        )


def _check_inside(
    name: str, point: FloatArray, low: FloatArray | None, high: FloatArray | None
) -> None:
    if low is None or high is None:
        return
    outside = np.flatnonzero((point < low) | (point > high))
    if outside.size:
        at = int(outside[0])
        wrong_value(name, f"a point inside the bounds [{low[at]}, {high[at]}]",
                    f"{point[at]} at coordinate {at}")  # fmt: skip


def _check_finite(name: str, point: FloatArray) -> None:
    if not np.isfinite(point).all():
        at = int(np.flatnonzero(~np.isfinite(point))[0])
        wrong_value(name, "finite numbers", f"{point[at]} at coordinate {at}")


def point_of(name: str, x: npt.ArrayLike, config: Config) -> FloatArray:
    """Checked copy of a point of the search space, in its dtype."""
    point = real_vector(name, x)
    if point.shape != (config.dim,):
        wrong_value(name, f"shape ({config.dim},)", point)
    with np.errstate(over="ignore"):
        point = point.astype(config.dtype)
    _check_finite(name, point)
    _check_inside(name, point, config.low, config.high)
    return point


def configure(
    x0: npt.ArrayLike,
    sigma: float,
    *,
    num_directions: int | None,
    top_k: int | None,
    sampler: str | Sampler,
    layout: Layout | None,
    selection: str | float | None,
    optimizer: str | Optimizer,
    learning_rate: float | None,
    sigma_rule: SigmaRule,
    bounds: object,
    maximize: bool,
    budget: int | None,
    seed: SeedLike,
    options: Options,
) -> tuple[Config, FloatArray]:
    """Check every argument of BGS once; return the description and a copy of x0."""
    center, sigma = _start(x0, sigma)
    dim, dtype = len(center), center.dtype
    if not isinstance(options, Options):
        wrong_type("options", "a bgs_opt.Options", options)
    options = options.resolved()
    rule = optimizer_of(optimizer)
    if rule is None:
        _check_automatic(
            {"num_directions": num_directions, "top_k": top_k, "selection": selection,
             "learning_rate": learning_rate, "sigma_rule": sigma_rule,
             "learning_rate_schedule": options.learning_rate_schedule,
             "acceptance": options.acceptance,
             "reward_scale": None if options.reward_scale == "kept" else options.reward_scale,
             "late": None if options.late == "ignore" else options.late}
        )  # fmt: skip
    budget = None if budget is None else integer("budget", budget, 1)
    if num_directions is None:
        num_directions = (
            min(dim, 1000)
            if rule is None
            else default_directions(dim, budget, options.num_workers)
        )
    num_directions = integer("num_directions", num_directions, 1, 1 << 24)
    if rule is None and options.min_valid > 1:
        wrong_value("min_valid", "1 with optimizer='auto', some of whose generations have a "
                    "single pair", options.min_valid)  # fmt: skip
    integer("min_valid", options.min_valid, 1, num_directions)
    if top_k is None:
        top_k = -(-num_directions // 2)
    if rule is not None and learning_rate is None:
        learning_rate = rule.default_learning_rate(sigma, dim)
    elif learning_rate is not None:
        learning_rate = real("learning_rate", learning_rate, 0, open_low=True)
    _check_sigma_rule(sigma_rule, rule)
    real("sigma", sigma, options.min_sigma or 0.0, options.max_sigma or math.inf)
    low, high = bounds_of(bounds, dim, dtype)
    _check_inside("x0", center, low, high)
    blocks = layout_of(layout, dim)
    config = Config(
        dim=dim, dtype=dtype.str, maximize=flag("maximize", maximize),
        start=hashlib.sha256(center.tobytes()).hexdigest()[:16], sigma=sigma,
        num_directions=num_directions, top_k=integer("top_k", top_k, 1, num_directions),
        sampler=sampler_of(sampler, dim, blocks, mixed=rule is None), layout=blocks,
        mean_weight=selection_of("difference" if selection is None else selection),
        optimizer=rule, learning_rate=learning_rate or 0.0, sigma_rule=sigma_rule,
        low=low, high=high, scale=scale_of(options.scale, dim, dtype, blocks),
        budget=budget, options=options,
        entropy=entropy_of(seed),  # last: it draws from a Generator
    )  # fmt: skip
    return config, center
