"""One run as a Nevergrad optimizer: its candidates on one side, ids of the core on the other.

The search goes on in Nevergrad's standardized space, whose origin is the start and whose unit is
a typical distance. ``bgs_opt.adapters.nevergrad`` holds the options and the names.
"""

from __future__ import annotations

import math
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.nevergrad", extra="nevergrad"):
    import nevergrad as ng
    from nevergrad.optimization import base

from bgs_opt import BGS, Candidates, Options
from bgs_opt.atomic import replaced
from bgs_opt.candidates import SLOT_BITS
from bgs_opt.errors import BGSWarning, StaleCandidateError

from .nevergrad_space import Box, Vector, box_of, sampled, start_of

__all__ = ["BGSRun", "Box", "base", "ng"]

FAILED = 1e20
"""A loss that is not below this is a point that failed (Nevergrad makes them 5e20)."""

SURE_BUDGET = 20  # below this, what the function says of its noise is believed


class Family(Protocol):
    """Makes the optimizer of the core."""

    def search(
        self,
        start: Vector,
        budget: int | None,
        seed: Any,
        options: Options,
        box: Box | None = None,
    ) -> BGS:
        """Make it."""
        ...


class BGSRun(base.Optimizer):
    """One run: candidates of Nevergrad on one side, ids of the core on the other.

    Values are told to the core when they may complete a generation, all at once.
    """

    _run: BGS | None

    def __init__(
        self,
        parametrization: Any,
        budget: int | None = None,
        num_workers: int = 1,
        *,
        config: Family,
    ) -> None:
        super().__init__(parametrization, budget=budget, num_workers=num_workers)
        self._penalize_cheap_violations = True  # else no pair with a violation is ever completed
        self._family = config
        self._run = None  # made when it is needed: the user may seed until then
        self._ids: dict[str, int] = {}  # of candidates that are out, by uid
        self._candidates: Candidates | None = None  # what the core has handed out, ...
        self._names: list[int] = []  # ... their ids,
        self._handed = 0  # how many of them were asked for,
        self._rows: Iterator[Any] | None = None  # and the points of the rest
        self._told: tuple[list[int], list[float]] = [], []
        self._awaited = 1
        self._dropped = 0
        self._several = False  # objectives
        self._box: Box | None = None
        self._ended = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # they are made again

    def dump(self, filepath: str | os.PathLike[str]) -> None:
        """Pickle the optimizer into a file, which is replaced as a whole."""
        with replaced(filepath) as file:
            pickle.dump(self, file)

    def _internal_ask_candidate(self) -> Any:
        run = self._started()
        if self._last():
            self._ended = True
            return self._child(run.center)
        if self._candidates is None or self._handed == len(self._candidates):
            self._candidates, self._handed = run.ask(run.needed or 1), 0
            self._names = self._candidates.ids.tolist()
            self._awaited = run.awaited
            self._rows = None
        if self._rows is None:
            self._rows = iter(self._candidates[self._handed :])
        candidate = self._child(next(self._rows))
        self._ids[candidate.uid] = self._names[self._handed]
        self._handed += 1
        return candidate

    def _child(self, point: npt.NDArray[Any]) -> Any:
        return self.parametrization.spawn_child().set_standardized_data(point)

    def _last(self) -> bool:
        """Whether the budget ends with this ask; then the center is evaluated if that helps."""
        if self.budget is None or self._ended or self._run is None or self._run.noisy is not False:
            return False
        asked = self._num_tell - self._num_tell_not_asked + len(self._asked)
        if asked != self.budget - 1 or self.budget < SURE_BUDGET:
            return False
        center = self._run.center  # was it evaluated before?
        known = (start_of(self.parametrization, self._box), self._run.best.x)
        return not any(np.array_equal(center, point) for point in known)

    def _internal_tell_candidate(self, candidate: Any, loss: float) -> None:
        if self.num_objectives > 1 and not self._several:
            self._several = True  # the hypervolume of a point depends on what came before: noise
            if self._run is not None and not self._run.num_evaluations:
                self._run, self._candidates, self._ids, self._told = None, None, {}, ([], [])
        name = self._ids.pop(candidate.uid, None)
        if name is None:  # of Nevergrad's constraint solver, say
            self._internal_tell_not_asked(candidate, loss)
            return
        run = self._started()
        if candidate.uid not in self._asked:  # it violates a constraint and was never handed out
            self._dropped += 1
            if self.budget is not None:
                run.set_budget(self.budget + self._dropped)
        value = float(loss) if loss < FAILED else math.nan
        if name >> SLOT_BITS != run.generation:
            self._tell_late(candidate, name, value)
            return
        self._told[0].append(name)
        self._told[1].append(value)
        if len(self._told[0]) >= self._awaited:
            self._flush()

    def _tell_late(self, candidate: Any, name: int, value: float) -> None:
        run = self._started()
        try:
            _quietly(run.tell, [name], [value])
        except StaleCandidateError:
            self._inject(candidate, value)

    def _internal_tell_not_asked(self, candidate: Any, loss: float) -> None:
        self._inject(candidate, float(loss) if loss < FAILED else math.nan)

    def _inject(self, candidate: Any, value: float) -> None:
        run = self._started()
        self._flush()
        point = candidate.get_standardized_data(reference=self.parametrization)
        if self._box is not None:
            point = np.clip(point, self._box.low, self._box.high)
        _quietly(run.inject, point, value)

    def _flush(self) -> None:
        """Tell the core what was told here."""
        if self._run is None or not self._told[0]:
            return
        names, values = self._told
        self._told = [], []
        _quietly(self._run.tell, names, values)
        self._awaited = self._run.awaited

    def _internal_provide_recommendation(self) -> Vector | None:
        """The average of the center under noise; else Nevergrad's best point (None).

        Where only the parametrization is random, the best value and what it was for are known.
        """
        self._flush()
        function = self.parametrization.function
        exact = function.deterministic and sampled(self.parametrization) and not self._several
        if self._run is None or not self._run.noisy or exact:
            return None
        return np.array(self._run.average, dtype=float)

    def recommend(self) -> Any:
        """Provide the best candidate to use as a minimum, given the budget that was used.

        Returns
        -------
        p.Parameter
            Its ``loss`` is the value told; that of a center under noise the mean of the last
            generation's evaluations of the center, or where it has none of all its values.
        """
        found = super().recommend()
        if found.loss is None and self._run is not None and self._run.noisy:
            for value in (self._run.recent_center_value, self._run.recent_value):
                if found.loss is None and not math.isnan(value):
                    found.loss = value
        return found

    def _info(self) -> dict[str, Any]:
        if self._run is None:
            return {}
        return {"sigma": self._run.sigma, "generation": self._run.generation}

    def _started(self) -> BGS:
        if self._run is None:
            self._box = box_of(self.parametrization)
            options = Options(
                max_skipped=1 << 30, num_workers=min(max(self.num_workers, 1), 1 << 20),
                patience=2 * max(self.num_workers, 1),
                distinct=True, noisy=self._noisy(),
            )  # fmt: skip
            seed = int.from_bytes(self._rng.bytes(16), "little")
            start = start_of(self.parametrization, self._box)
            self._run = self._family.search(start, self.budget, seed, options, self._box)
        return self._run

    def _noisy(self) -> bool | None:
        """What the user or the parametrization says of noise; None: nothing."""
        if self._several:
            return True
        if sampled(self.parametrization) or not self.parametrization.function.deterministic:
            return True
        return False if self.budget is not None and self.budget < SURE_BUDGET else None


def _quietly(call: Callable[..., Any], points: Any, values: Any) -> None:
    """Call without this package's warnings of failed values: Nevergrad has given its own."""
    if np.isfinite(values).all():
        call(points, values)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BGSWarning)
        call(points, values)
