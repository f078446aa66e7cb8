"""Names become objects: samplers, optimizers, and the options of the second row.

What a user may write as a string is resolved here and nowhere else; what can be written into a
checkpoint is what is registered here.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bgs_opt.bounds import BOUND_MODES
from bgs_opt.directions import QR, Factorised, Gaussian, GaussianTable, Rademacher
from bgs_opt.hadamard import Hadamard
from bgs_opt.optimizers import SGD, Adam, ClipUp
from bgs_opt.orthogonal import Orthogonal
from bgs_opt.protocols import Layout, Optimizer, Sampler, Schedule
from bgs_opt.selection import REWARD_SCALES
from bgs_opt.sigma import CumulativeAdaptation, ExponentialDecay, InverseDecay, LinearDecay
from bgs_opt.validation import choice, flag, integer, real, wrong_type, wrong_value

__all__ = [
    "OPTIMIZERS",
    "REGISTERED",
    "SAMPLERS",
    "SELECTIONS",
    "Options",
    "layout_of",
    "optimizer_of",
    "sampler_of",
    "selection_of",
]

QR_LIMIT = 1000
"""``sampler="orthogonal"`` is QR up to this dimension and hadamard beyond it."""
MIXED_LIMIT = 256
"""... but above this, where generations differ in size, only for those that need many rows."""

SAMPLERS = (
    "orthogonal",
    "qr",
    "hadamard",
    "gaussian",
    "gaussian_table",
    "rademacher",
    "factorised",
)
OPTIMIZERS = ("clipup", "adam", "sgd", "auto")
SELECTIONS = {"difference": 0.0, "max": 1.0}
COMMON_SEEDS = ("pair", "generation", "none")
ON_FAILURE = ("worst", "drop", "raise")
LATE = ("ignore", "use")

REGISTERED: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        QR, Factorised, Gaussian, GaussianTable, Hadamard, Orthogonal, Rademacher,
        SGD, Adam, ClipUp, CumulativeAdaptation, ExponentialDecay, InverseDecay,
        LinearDecay,
    )
}  # fmt: skip
"""Frozen descriptions that a checkpoint may name."""


_SAMPLER_OF: dict[str, Sampler] = {
    "orthogonal": Hadamard(),  # of long vectors
    "qr": QR(),
    "hadamard": Hadamard(),
    "gaussian": Gaussian(),
    "gaussian_table": GaussianTable(),
    "rademacher": Rademacher(),
    "factorised": Factorised(),
}


@dataclass(frozen=True)
class Options:
    """What most users leave alone.

    Parameters
    ----------
    repeats : int
        Evaluations of each end of a pair, averaged.
    common_seeds : {"pair", "generation", "none"}, optional
        Which evaluations of one repeat index share a seed (``Candidates.seeds``): both ends of
        a pair, the whole generation, or none. By default "pair"; in
        :func:`bgs_opt.adapters.policy.train` "generation", or "pair" where there is a list of
        environments.
    reward_scale : {"kept", "all", "rank"}
        s_R of :func:`bgs_opt.selection.direction_weights`.
    center_evaluations : int
        Evaluations of the unperturbed center each generation (the baseline).
    acceptance : float, optional
        c: a direction is accepted only if max(R+, R-) >= baseline - c std. Needs the baseline:
        one center evaluation is made where none is asked for (one of each scenario).
    scenarios : int
        Conditions, tasks or latent genes that every point is evaluated under, by turns: repeat r
        of a pair and evaluation r of the center belong to scenario ``r % scenarios``. ``repeats``
        is a multiple of it; evaluations of the center are rounded up to one. Each is named by
        ``Candidates.scenarios``; those of one repeat share a seed where ``common_seeds`` does.
    accept_fraction : float
        Share of the scenarios in which ``acceptance`` must hold for a direction, in [0, 1].
    weight_decay : float
        The center is multiplied by 1 - weight_decay each generation; in [0, 1).
    averaging : float
        Decay of the moving average of the center, in [0, 1); 0 keeps no average.
    on_failure : {"worst", "drop", "raise"}
        A NaN or infinite value counts as the worst finite one of its generation, drops its
        pair, or is refused by ``tell``. A pair without any finite value is dropped in any case.
    min_valid : int
        Fewer usable pairs than this: no step. At most ``num_directions``; 1 with
        ``optimizer="auto"``, some of whose generations have a single pair.
    max_skipped : int
        After so many generations without a step in a row, ``ask`` raises SearchStalledError.
    late : {"ignore", "use"}
        Whether pairs completed after their generation closed join the next update.
    scale : float or array_like of shape (d,) or mapping of block names to floats, optional
        Candidates are center +- sigma * scale * e. A mapping needs ``layout``.
    bound_mode : {"clip", "reflect"}
        What happens to a candidate outside the bounds.
    min_sigma, max_sigma : float, optional
        Floor and ceiling of sigma; by default 1e-15 and 1e6 times the start (1e3 times with the
        automatic rule).
    learning_rate_schedule : Schedule, optional
        Factor >= 0 on the learning rate by generation.
    noisy : bool, optional
        Whether the objective is noisy. None: found by ``start_evaluations``.
    start_evaluations : int
        Evaluations of the start that make up generation 0 and tell noise from none;
        ``optimizer="auto"`` chooses for itself where this is 0 and ``noisy`` is None.
    num_workers : int
        Evaluations that go on at the same time. A generation of ``optimizer="auto"`` then has
        at least so many wherever the rule leaves it a choice, and evaluations of the start go
        out together with pairs.
    patience : int, optional
        A generation that has grown by so many complete pairs beyond those it needs no longer
        waits for single evaluations: of the center, along the last step. By default it waits
        until they are told or discarded.
    distinct : bool
        Repeated evaluations of the center are a hair apart (about 1e-13 sigma), for hosts that
        keep values by the point; noise is told from none by what lies beyond that.
    """

    repeats: int = 1
    common_seeds: str | None = None
    reward_scale: str = "kept"
    center_evaluations: int = 0
    acceptance: float | None = None
    scenarios: int = 1
    accept_fraction: float = 0.9
    weight_decay: float = 0.0
    averaging: float = 0.0
    on_failure: str = "worst"
    min_valid: int = 1
    max_skipped: int = 20
    late: str = "ignore"
    scale: Any = None
    bound_mode: str = "clip"
    min_sigma: float | None = None
    max_sigma: float | None = None
    learning_rate_schedule: Schedule | None = None
    noisy: bool | None = None
    start_evaluations: int = 0
    num_workers: int = 1
    patience: int | None = None
    distinct: bool = False

    def __post_init__(self) -> None:
        integer("repeats", self.repeats, 1, 1 << 20)
        if self.common_seeds is not None:
            choice("common_seeds", self.common_seeds, COMMON_SEEDS)
        choice("reward_scale", self.reward_scale, REWARD_SCALES)
        integer("center_evaluations", self.center_evaluations, 0, 1 << 20)
        if self.acceptance is not None:
            real("acceptance", self.acceptance)
        if self.repeats % integer("scenarios", self.scenarios, 1, self.repeats):
            wrong_value("repeats", f"a multiple of scenarios = {self.scenarios}", self.repeats)
        real("accept_fraction", self.accept_fraction, 0, 1)
        real("weight_decay", self.weight_decay, 0, 1, open_high=True)
        real("averaging", self.averaging, 0, 1, open_high=True)
        choice("on_failure", self.on_failure, ON_FAILURE)
        integer("min_valid", self.min_valid, 1)
        integer("max_skipped", self.max_skipped, 1)
        choice("late", self.late, LATE)
        choice("bound_mode", self.bound_mode, BOUND_MODES)
        for name in ("min_sigma", "max_sigma"):
            if getattr(self, name) is not None:
                real(name, getattr(self, name), 0, open_low=True)
        if self.min_sigma is not None and self.max_sigma is not None:
            real("max_sigma", self.max_sigma, self.min_sigma)
        if self.noisy is not None:
            flag("noisy", self.noisy)
        integer("start_evaluations", self.start_evaluations, 0, 1 << 20)
        integer("num_workers", self.num_workers, 1, 1 << 20)
        if self.patience is not None:
            integer("patience", self.patience, 1, 1 << 30)
        flag("distinct", self.distinct)
        schedule = self.learning_rate_schedule
        if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
            wrong_type("learning_rate_schedule", "a callable of the generation or None", schedule)

    def resolved(self, common_seeds: str = "pair") -> Options:
        """The group with ``common_seeds``, where it does not name them itself."""
        if self.common_seeds is not None:
            return self
        return replace(self, common_seeds=common_seeds)

    @property
    def baseline_evaluations(self) -> int:
        """Center evaluations that a generation makes."""
        wanted = self.center_evaluations
        wanted = wanted if wanted or self.acceptance is None else 1
        return -(-wanted // self.scenarios) * self.scenarios


def layout_of(layout: Layout | None, dim: int) -> dict[str, tuple[int, ...]]:
    """Checked copy of the layout; empty for None."""
    if layout is None:
        return {}
    if not isinstance(layout, Mapping):
        wrong_type("layout", "a mapping of block names to shapes", layout)
    checked = {}
    for name, shape in layout.items():
        if not isinstance(name, str) or not isinstance(shape, (tuple, list)):  # type: ignore[redundant-expr]
            wrong_type("layout", "a mapping of str to tuples of int", layout)
        checked[name] = tuple(integer(f"layout[{name!r}]", side, 1) for side in shape)
    total = sum(math.prod(shape) for shape in checked.values())
    if total != dim:
        wrong_value("layout", f"blocks of {dim} numbers in all, as x0 has", total)
    return checked


def sampler_of(
    sampler: str | Sampler, dim: int, layout: Layout, *, mixed: bool = False
) -> Sampler:
    """Resolve the name of a sampler; ``mixed`` if generations differ in size."""
    if isinstance(sampler, str):
        name = choice("sampler", sampler, SAMPLERS)
        if name == "orthogonal" and dim <= QR_LIMIT:
            sampler = Orthogonal() if mixed and dim > MIXED_LIMIT else QR()
        else:
            sampler = _SAMPLER_OF[name]
    elif isinstance(sampler, type) or not isinstance(sampler, Sampler):
        wrong_type("sampler", f"one of {', '.join(SAMPLERS)} or a Sampler", sampler)
    if isinstance(sampler, Factorised) and not layout:
        wrong_value("layout", "names and shapes of the blocks for sampler='factorised'", None)
    return sampler


def optimizer_of(optimizer: str | Optimizer) -> Optimizer | None:
    """Resolve the name of an optimizer; None stands for the automatic step rule."""
    if not isinstance(optimizer, str):
        if isinstance(optimizer, type) or not isinstance(optimizer, Optimizer):
            wrong_type("optimizer", f"one of {', '.join(OPTIMIZERS)} or an Optimizer", optimizer)
        return optimizer
    name = choice("optimizer", optimizer, OPTIMIZERS)
    table: dict[str, Optimizer] = {"clipup": ClipUp(), "adam": Adam(), "sgd": SGD()}
    return table.get(name)


def selection_of(selection: str | float) -> float:
    """Weight of the mean in the selection key: by name, or any number >= 0."""
    if isinstance(selection, numbers.Real) and not isinstance(selection, bool):
        return real("selection", selection, 0)
    return SELECTIONS[choice("selection", selection, tuple(SELECTIONS))]
