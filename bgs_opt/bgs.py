"""BGS: Blackbox Gradient Sensing as an ask/tell optimizer.

Abeyruwan et al. 2022, i-Sim2Real (arXiv 2207.06572), eq. 3-4; with ``selection="max"`` ARS
(Mania et al. 2018, arXiv 1803.07055). The class hands out candidates, checks what is told, and
calls ``update.close_generation`` when a generation is complete; it holds no formula.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bgs_opt.candidates import Candidates
from bgs_opt.config import SigmaRule, configure, point_of
from bgs_opt.errors import SearchStalledError
from bgs_opt.ledger import Ledger, TellReport, Warner, ids_of, values_of
from bgs_opt.opening import first_generation, jump, reopen
from bgs_opt.options import Options
from bgs_opt.pairs import source_of
from bgs_opt.protocols import FloatArray, IntArray, Layout, Optimizer, Sampler
from bgs_opt.run import Run
from bgs_opt.streams import SeedLike
from bgs_opt.update import close_generation
from bgs_opt.validation import integer

__all__ = ["BGS"]


class BGS(Run):
    r"""Maximise or minimise a noisy black box by perturbing a vector along random directions.

    Parameters
    ----------
    x0 : array_like of float, shape (d,)
        Start. float32 and float64 are kept, integers become float64. Copied.
    sigma : float
        Size of the perturbations, > 0, in the units of x0.
    num_directions : int, optional
        N, pairs of a generation; by default 4 + 3 ln d.
    top_k : int, optional
        k, directions kept, 1 <= k <= N; by default half of them.
    sampler : str or Sampler
        "orthogonal" (QR up to d = 1,000, else "hadamard"), "qr", "hadamard", "gaussian",
        "gaussian_table", "rademacher" or "factorised".
    layout : mapping of str to tuple of int, optional
        Names and shapes of the blocks that make up the vector, in order.
    selection : {"difference", "max"} or float, optional
        Which directions are kept: largest \|R+ - R-\| (BGS, the default) or largest
        max(R+, R-) (ARS); a number is the weight of the mean between them.
    optimizer : str or Optimizer
        "clipup", "adam", "sgd", or "auto": the rule of :mod:`bgs_opt.automatic`, which finds
        N, step length and sigma from the function and the budget.
    learning_rate : float, optional
        Step size, > 0; each optimizer has a default that follows from sigma and d.
    sigma_rule : Schedule or CumulativeAdaptation, optional
        How sigma changes; constant by default.
    bounds : (low, high) or scipy.optimize.Bounds, optional
        Each side a scalar or of shape (d,). Every asked point lies inside.
    maximize : bool
        Whether larger values are better.
    budget : int, optional
        Evaluations after which ``stop()`` says so; ``optimizer="auto"`` plans by it.
    seed : None, int, SeedSequence or Generator
        The same seed gives the same bits.
    options : Options
        Everything else.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) naming the argument, what was expected and what came.

    References
    ----------
    .. [1] Abeyruwan et al. 2022, i-Sim2Real, arXiv 2207.06572.
    .. [2] D'Ambrosio et al. 2024, Achieving human level competitive robot table tennis,
       arXiv 2408.03906, table IX.

    Examples
    --------
    >>> import numpy as np
    >>> from bgs_opt import BGS
    >>> opt = BGS(np.ones(10), 0.1, seed=1, budget=4000)
    >>> while not opt.stop():
    ...     candidates = opt.ask()
    ...     report = opt.tell(candidates, [float(x @ x) for x in candidates])
    >>> bool(opt.best.value < 0.1)
    True
    """

    def __init__(
        self,
        x0: npt.ArrayLike,
        sigma: float,
        *,
        num_directions: int | None = None,
        top_k: int | None = None,
        sampler: str | Sampler = "orthogonal",
        layout: Layout | None = None,
        selection: str | float | None = None,
        optimizer: str | Optimizer = "clipup",
        learning_rate: float | None = None,
        sigma_rule: SigmaRule = None,
        bounds: object = None,
        maximize: bool = False,
        budget: int | None = None,
        seed: SeedLike = None,
        options: Options = Options(),  # noqa: B008  (frozen)
    ) -> None:
        config, center = configure(
            x0, sigma, num_directions=num_directions, top_k=top_k, sampler=sampler,
            layout=layout, selection=selection, optimizer=optimizer,
            learning_rate=learning_rate, sigma_rule=sigma_rule, bounds=bounds,
            maximize=maximize, budget=budget, seed=seed, options=options,
        )  # fmt: skip
        center.setflags(write=False)
        self._assemble(config, first_generation(config, center))

    def ask(self, n: int | None = None) -> Candidates:
        """Hand out points to evaluate.

        Parameters
        ----------
        n : int, optional
            How many. By default all that the open generation still needs (none if all of them
            were handed out; see :attr:`pending`). More than that grows the generation by further
            directions from the same center, so that any number of workers is kept busy.

        Returns
        -------
        Candidates

        Raises
        ------
        SearchStalledError
            If ``Options.max_skipped`` generations in a row had no usable pair.
        """
        count = None if n is None else integer("n", n, 1, 1 << 30)
        with self._lock:
            state = self._state
            if state.skipped >= self._config.options.max_skipped:
                raise SearchStalledError(
                    f"{state.skipped} generations in a row ended without a usable pair; the "
                    "objective returns no finite values near this center"
                )
            slots = state.open.hand_out(state.open.needed if count is None else count)
            source = source_of(self._config, state.open, state.center, self._directions)
        return Candidates(source, slots)

    def tell(self, candidates: Candidates | npt.ArrayLike, values: npt.ArrayLike) -> TellReport:
        """Record values of candidates: any subset, in any order, any number of times.

        The call checks everything, then changes state. The update runs when
        ``num_directions`` pairs are complete.

        Parameters
        ----------
        candidates : Candidates or array_like of int, shape (n,)
            What was evaluated, or its ids.
        values : array_like of float, shape (n,)
            Values of the objective. NaN and infinities are points that failed.

        Returns
        -------
        TellReport

        Raises
        ------
        UnknownCandidateError, StaleCandidateError
            If an id was never asked, or its generation closed too long ago.
        DuplicateTellError
            If an id has another value already.
        ArgumentValueError, ArgumentTypeError, NonFiniteValueError
            If the values do not fit.
        """
        with self._lock:
            ids = ids_of(candidates, self._config.entropy)
            numbers = values_of(values, len(ids), self._config.options.on_failure)
            return self._settle(ids, numbers)

    def discard(self, candidates: Candidates | npt.ArrayLike) -> TellReport:
        """Give up evaluations that will never come; each drops its pair.

        Parameters
        ----------
        candidates : Candidates or array_like of int, shape (n,)

        Returns
        -------
        TellReport

        Raises
        ------
        UnknownCandidateError, StaleCandidateError
            If an id was never asked, or its generation closed too long ago.
        """
        with self._lock:
            return self._settle(ids_of(candidates, self._config.entropy), None)

    def inject(self, x: npt.ArrayLike, value: float) -> bool:
        """Tell of a point that this run did not ask for.

        If its value is better than every one before, it is the best, and the center goes to it
        when the open generation closes (at once if nothing of it was handed out), unless a
        point that was asked for is better still by then. Any other value changes nothing.
        Injected values are not counted as evaluations.

        Parameters
        ----------
        x : array_like of float, shape (d,)
            A point inside the bounds.
        value : float
            Value of the objective there. NaN and infinities are points that failed.

        Returns
        -------
        bool
            Whether it is the best value so far.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the point or the value do not fit.
        """
        point = point_of("x", x, self._config)
        told = float(values_of([value], 1, self._config.options.on_failure)[0])
        loss = -told if self._config.maximize else told
        with self._lock:
            state = self._state
            if not math.isfinite(loss) or loss >= state.best_value:
                return False
            point.setflags(write=False)
            state.best_x, state.best_value, state.best_id, state.jump = point, loss, -1, True
            if not state.open.asked:
                jump(self._config, state)
                reopen(self._config, state)
            return True

    def _settle(self, ids: IntArray, values: FloatArray | None) -> TellReport:
        factors = self._config.factors(self._state.open.number)
        ledger = Ledger(self._config, self._state, self._directions)
        accepted, late, repeated = ledger.settle(ids, values)
        events = ledger.events
        updated = False
        if self._state.open.complete and self._state.open.asked:
            events += close_generation(self._config, self._state, self._directions, factors)
            self._state.center.setflags(write=False)
            updated = True
        Warner(self._state).issue(events)
        return TellReport(accepted, late, repeated, updated)

    @property
    def pending(self) -> Candidates:
        """Candidates of the open generation that were asked and neither told nor discarded.

        What has to be evaluated again after a checkpoint was loaded.
        """
        with self._lock:
            state = self._state
            source = source_of(self._config, state.open, state.center, self._directions)
            return Candidates(source, state.open.outstanding())

    def stop(self) -> dict[str, float]:
        """Reasons to stop, by name; empty while the search should go on.

        "budget": the evaluations told; "stalled": generations without a usable pair;
        "sigma": sigma when it no longer changes any coordinate of the center.
        """
        with self._lock:
            config, state = self._config, self._state
            reasons: dict[str, float] = {}
            if config.budget is not None and state.num_evaluations >= config.budget:
                reasons["budget"] = state.num_evaluations
            if state.skipped >= config.options.max_skipped:
                reasons["stalled"] = state.skipped
            largest = max(float(state.center.max()), -float(state.center.min()))
            smallest = float(np.spacing(state.center.dtype.type(largest)))
            if state.sigma < 1e-3 * smallest:
                reasons["sigma"] = state.sigma
            return reasons
