"""BGS as an EvoTorch searcher, used where PGPE, SNES or CEM is used.

    from bgs_opt.adapters.evotorch import BGS

    searcher = BGS(problem, popsize=200, center_learning_rate=0.05, stdev_init=0.1)
    searcher.run(100)
    searcher.status["center"]

The constructor takes PGPE's keywords. The order of a step, the keys of the status and the errors
are those of EvoTorch's own Gaussian searchers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch

from bgs_opt.errors import ArgumentValueError
from bgs_opt.options import selection_of
from bgs_opt.validation import choice, flag, integer, real

from .evotorch_actors import seedable
from .evotorch_distribution import BGSGaussian
from .evotorch_functional import BGSState, bgs, bgs_ask, bgs_tell
from .evotorch_search import Problem, Search, bounds_of, reflect

__all__ = ["BGS", "BGSGaussian", "BGSState", "bgs", "bgs_ask", "bgs_tell"]  # and PairedGymNE


def __getattr__(name: str) -> Any:
    if name == "PairedGymNE":  # needs gymnasium
        from .evotorch_gym import PairedGymNE

        return PairedGymNE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BGS(Search):
    """Blackbox Gradient Sensing (Abeyruwan et al. 2022, arXiv 2207.06572, eq. 3-4).

    Both ends of popsize / 2 directions are evaluated, the ``top_k`` directions with the largest
    difference are kept, and the center moves along their sum, weighted by the differences over
    the standard deviation of the kept fitnesses.

    Parameters
    ----------
    problem : Problem
        Numeric; unbounded, unless ``bounds`` says how bounds are kept.
    popsize : int
        Solutions of a generation, two for each direction.
    center_learning_rate : float
        Step size. With "clipup" the length of a step from rest; without an optimizer the factor
        of the gradient ``sum_i w_i e_i``, where ``e_i`` has norm about sqrt(d).
    stdev_learning_rate : float
        Of the standard deviations; 0 leaves them as they are.
    stdev_init, radius_init
        Size of the perturbations, number or vector; exactly one of the two, as in PGPE.
    top_k : int, optional
        k, directions kept, 1 <= k <= popsize / 2; by default half of them.
    sampler : str, optional
        "gaussian", "gaussian_table", "hadamard", "orthogonal" or "rademacher", see
        :class:`bgs_opt.adapters.evotorch_sampling.Rows`; by default "orthogonal" where there are
        at least d / 4 directions, else "gaussian_table", and "hadamard" from d = 4,096 on.
    selection : {"difference", "max"} or float
        Which directions are kept; "max" is ARS.
    center_eval : bool
        Evaluate the center with each population; its fitness is ``status["center_eval"]``.
    acceptance : float, optional
        Keep only directions whose better end is not worse than the center by more than this
        many standard deviations of all fitnesses; evaluates the center.
    repeats : int
        How often each population is evaluated; fitnesses are means. (``num_episodes`` of a
        GymNE problem does the same at less cost.)
    bounds : {"reflect"}, optional
        Fold solutions and center into the bounds of the problem. Without it a bounded problem
        is refused, as by every Gaussian searcher of EvoTorch.
    num_interactions, popsize_max, optimizer, optimizer_config, center_init, stdev_min, \
stdev_max, stdev_max_change, obj_index
        As in PGPE.
    ranking_method : str, optional
        How fitnesses are shaped first ("centered", "linear", "nes", "normalized"); by default
        not at all.
    symmetric : bool
        Only True: a pair has two ends.
    distributed : bool
        Have the actors make their solutions themselves. The selection is still over the
        directions of all actors, by their fitnesses, and the result does not depend on the
        number of actors or sub-batches.
    popsize_weighted_grad_avg : bool, optional
        Accepted as by PGPE; there are no gradients of single actors to average.

    Attributes
    ----------
    population : SolutionBatch or None
        Both ends of each direction in turn; None when actors make it.
    optimizer
        The optimizer of the center, whose ``param_groups`` may be changed.
    status : mapping
        PGPE's keys, in distributed mode too; "center_eval" if it was asked for.

    Raises
    ------
    ValueError, TypeError
        As EvoTorch's searchers, and for options out of range.

    Examples
    --------
    >>> import torch
    >>> from evotorch import Problem
    >>> _ = torch.manual_seed(0)
    >>> sphere = Problem("min", lambda x: (x**2).sum(-1), solution_length=10,
    ...                  initial_bounds=(-1, 1), vectorized=True)
    >>> searcher = BGS(sphere, popsize=20, center_learning_rate=0.2, stdev_init=0.1)
    >>> searcher.run(60)
    >>> searcher.status["mean_eval"] < 0.5
    True
    """

    def __init__(
        self,
        problem: Problem,
        *,
        popsize: int,
        center_learning_rate: float,
        stdev_learning_rate: float = 0.0,
        stdev_init: Any = None,
        radius_init: Any = None,
        top_k: int | None = None,
        sampler: str | None = None,
        selection: str | float = "difference",
        center_eval: bool = False,
        acceptance: float | None = None,
        repeats: int = 1,
        bounds: str | None = None,
        num_interactions: int | None = None,
        popsize_max: int | None = None,
        optimizer: Any = "clipup",
        optimizer_config: dict[str, Any] | None = None,
        ranking_method: str | None = None,
        center_init: Any = None,
        stdev_min: Any = None,
        stdev_max: Any = None,
        stdev_max_change: Any = 0.2,
        symmetric: bool = True,
        obj_index: int | None = None,
        distributed: bool = False,
        popsize_weighted_grad_avg: bool | None = None,
    ) -> None:
        if not flag("symmetric", symmetric):
            raise ArgumentValueError("symmetric: expected True, since a pair has two ends")
        popsize = integer("popsize", popsize, 2)
        if distributed:  # as EvoTorch, which wants an even number only in this process
            popsize += popsize % 2
        directions = popsize // 2
        top_k = -(-directions // 2) if top_k is None else integer("top_k", top_k, 1, directions)
        self.DISTRIBUTION_PARAMS = {
            "top_k": top_k,
            "mean_weight": selection_of(selection),
            "adapts_sigma": bool(stdev_learning_rate),
        }
        _checked(center_init=center_init, center_learning_rate=center_learning_rate)
        _checked(stdev_learning_rate=stdev_learning_rate)
        _checked(above=0.0, stdev_init=stdev_init, radius_init=radius_init)
        self._acceptance = None if acceptance is None else real("acceptance", acceptance, 0)
        self._with_center = flag("center_eval", center_eval) or acceptance is not None
        self._repeats = integer("repeats", repeats, 1)
        self._box = None
        with _bounds_allowed(problem, bounds):
            super().__init__(
                problem,
                popsize=popsize,
                center_learning_rate=center_learning_rate,
                stdev_learning_rate=stdev_learning_rate,
                stdev_init=stdev_init,
                radius_init=radius_init,
                num_interactions=num_interactions,
                popsize_max=popsize_max,
                optimizer=optimizer,
                optimizer_config=optimizer_config,
                ranking_method=ranking_method,
                center_init=center_init,
                stdev_min=stdev_min,
                stdev_max=stdev_max,
                stdev_max_change=stdev_max_change,
                obj_index=obj_index,
                distributed=distributed,
                popsize_weighted_grad_avg=popsize_weighted_grad_avg,
                ensure_even_popsize=True,
            )
        if bounds is not None:
            self._box = bounds_of(problem)
            if self._box is None:
                raise ArgumentValueError("bounds: expected None, since the problem has none")
            self._distribution.mu = reflect(self._distribution.mu, *self._box)
        self._take_copies()
        seedable(self.problem)
        self._begin(sampler)
        self._add_getters(distributed)

    def _take_copies(self) -> None:
        """What the caller gave stays the caller's."""
        for name in ("mu", "sigma"):
            setattr(self._distribution, name, getattr(self._distribution, name).clone())

    def _add_getters(self, distributed: bool) -> None:
        getters: dict[str, Any] = {}
        if distributed:  # EvoTorch has these only where there is a population
            getters = {"median_eval": self._get_median_eval, "pop_best": self._get_pop_best,
                       "pop_best_eval": self._get_pop_best_eval}  # fmt: skip
            if self._num_interactions is not None:
                getters["popsize"] = self._get_popsize
        if self._with_center:
            getters["center_eval"] = self._get_center_eval
        self.add_status_getters(getters)


def _checked(above: float = -math.inf, **given: Any) -> None:
    """Refuse numbers, vectors and tensors that are not finite or not above a limit.

    What is no number at all is left to EvoTorch.
    """
    for name, value in given.items():
        try:
            numbers = torch.as_tensor(1.0 if value is None else value)
            right = bool((torch.isfinite(numbers) & (numbers > above)).all())
        except (TypeError, ValueError, RuntimeError):
            continue
        if not right:
            limit = "" if above == -math.inf else f" above {above:g}"
            raise ArgumentValueError(f"{name}: expected finite numbers{limit}; got {value!r}")


@contextlib.contextmanager
def _bounds_allowed(problem: Problem, bounds: str | None) -> Iterator[None]:
    """EvoTorch's constructor refuses bounds, unless it is told that they are kept."""
    if bounds is None:
        yield
        return
    choice("bounds", bounds, ("reflect",))
    problem.ensure_unbounded = lambda: None
    try:
        yield
    finally:
        del problem.ensure_unbounded
