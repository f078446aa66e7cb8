"""A run: its description, its state and one lock; what was found so far, and keeping it."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import threading
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bgs_opt import checkpoint
from bgs_opt.archive import damage
from bgs_opt.config import Config, point_of
from bgs_opt.errors import ArgumentValueError
from bgs_opt.opening import reopen
from bgs_opt.protocols import FloatArray
from bgs_opt.state import HISTORY, Best, State
from bgs_opt.update import recommended
from bgs_opt.validation import integer

R = TypeVar("R", bound="Run")

__all__ = ["Run"]


class Run:
    """What every optimizer over a :class:`bgs_opt.state.State` shows and keeps.

    Made by ``BGS(...)`` or ``BGS.load``, never by itself.
    """

    def _assemble(self, config: Config, state: State) -> None:
        self._config = config
        self._state = state
        self._directions = config.sampler.bind(
            config.dim, config.num_directions, np.dtype(config.dtype), config.entropy,
            config.layout,
        )  # fmt: skip
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            # a copy: pickle reads it after the lock was let go
            return {"config": self._config, "state": copy.deepcopy(self._state)}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self._assemble(saved["config"], saved["state"])
        for array in (self._state.center, self._state.best_x):
            if array is not None:
                array.setflags(write=False)

    def __repr__(self) -> str:
        return (
            f"BGS(dim={self.dim}, generation={self.generation}, "
            f"num_evaluations={self.num_evaluations}, sigma={self.sigma:.3g}, "
            f"best={self._best_value:.6g})"
        )

    # ---- what was found

    @property
    def _best_value(self) -> float:
        return -self._state.best_value if self._config.maximize else self._state.best_value

    @property
    def best(self) -> Best:
        """Best value told so far and its point; before the first, the start and NaN."""
        with self._lock:
            state = self._state
            if state.best_x is None:
                return Best(state.center.view(), float("nan"))
            return Best(state.best_x.view(), self._best_value)

    @property
    def center(self) -> FloatArray:
        """Current center theta, read-only, shape (d,)."""
        return self._state.center.view()  # a view cannot be made writable

    @property
    def average(self) -> FloatArray:
        """Average of the center where one is kept, else the center; read-only, shape (d,)."""
        with self._lock:
            return recommended(self._config, self._state).view()

    @property
    def recommendation(self) -> FloatArray:
        """The point to use: the best one seen if the objective is known to be free of noise,
        else the average of the center. Read-only, shape (d,).
        """  # noqa: D205
        return self.best.x if self.noisy is False else self.average

    @property
    def noisy(self) -> bool | None:
        """Whether the objective is noisy; None if nobody said and nothing was measured."""
        return self._state.noisy

    @property
    def needed(self) -> int:
        """Candidates that the open generation still needs and has not handed out."""
        return self._state.open.needed

    @property
    def awaited(self) -> int:
        """Fewest values (or losses) that must be told before the center is updated; >= 1."""
        return self._state.open.awaited

    @property
    def budget(self) -> int | None:
        """Evaluations after which ``stop`` says so."""
        return self._config.budget

    def set_budget(self, budget: int | None) -> None:
        """Go on for longer, or not so long."""
        checked = None if budget is None else integer("budget", budget, 1)
        with self._lock:
            self._config = dataclasses.replace(self._config, budget=checked)
            if self._state.automatic is not None:
                self._state.automatic.budget = -1 if checked is None else checked

    @property
    def dim(self) -> int:
        """Length d of the vector."""
        return self._config.dim

    @property
    def sigma(self) -> float:
        """Current size of the perturbations."""
        return self._state.sigma

    @property
    def start_sigma(self) -> float:
        """Size of the perturbations at the start."""
        return self._config.sigma

    @property
    def generation(self) -> int:
        """Number of the open generation, from 0."""
        return self._state.open.number

    @property
    def num_evaluations(self) -> int:
        """Values told so far, late ones included."""
        return self._state.num_evaluations

    @property
    def counts(self) -> dict[str, int]:
        """Evaluations told, late, failed (not finite), discarded; generations skipped."""
        state = self._state
        return {
            "evaluations": state.num_evaluations,
            "late": state.num_late,
            "failed": state.num_failed,
            "discarded": state.num_discarded,
            "skipped": state.num_skipped,
        }

    @property
    def history(self) -> dict[str, FloatArray]:
        """One number a generation, by name (thinned out beyond 4,096 generations)."""
        with self._lock:
            table = self._state.history[: self._state.history_rows].copy()
        return {name: table[:, column] for column, name in enumerate(HISTORY)}

    @property
    def recent_value(self) -> float:
        """Mean value of the last generation that was closed; NaN before the first."""
        with self._lock:
            return self._state.recent_value

    @property
    def recent_center_value(self) -> float:
        """Mean value of the center in the last generation that was closed; NaN without one."""
        with self._lock:
            return self._state.recent_center

    def reached(self, target: float) -> bool:
        """Whether a value as good as ``target`` was told."""
        return self._state.best_value <= (-target if self._config.maximize else target)

    def settled(self, tol: float) -> bool:
        """Whether sigma and the last step's root mean square are below ``tol``."""
        state = self._state
        return state.sigma < tol and state.last_step < tol * math.sqrt(self.dim)

    # ---- from outside

    def move_to(self, x: npt.ArrayLike) -> None:
        """Put the center elsewhere, between two generations; what was learnt of steps stays.

        Parameters
        ----------
        x : array_like of float, shape (d,)
            A point inside the bounds.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the point does not fit, or candidates of the open generation were handed out.
        """
        point = point_of("x", x, self._config)
        with self._lock:
            if self._state.open.asked:
                raise ArgumentValueError(
                    "x: expected to be called between two generations; got candidates of "
                    f"generation {self.generation} that are out"
                )
            point.setflags(write=False)
            self._state.center = point
            reopen(self._config, self._state)

    # ---- keeping

    def differs(self, other: Run, *, seeded: bool = True) -> list[str]:
        """Names of arguments in which two runs differ, budget apart (seed if ``seeded``)."""
        left, right = checkpoint.describe(self._config), checkpoint.describe(other._config)
        apart = {"budget"} if seeded else {"budget", "entropy"}
        names = {
            "entropy": "seed",
            "start": "x0",
            "low": "bounds",
            "high": "bounds",
            "mean_weight": "selection",
        }
        found = [n for n in left if n not in apart and left[n] != right[n]]
        return list(dict.fromkeys(names.get(name, name) for name in found))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a .npz file, atomically; see :mod:`bgs_opt.checkpoint`."""
        with self._lock:
            checkpoint.write(path, self._config, self._state)

    @classmethod
    def load(cls: type[R], path: str | os.PathLike[str]) -> R:
        """Read a run back; it continues bit for bit where it was saved.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another format, or not a checkpoint.
        """
        config, state = checkpoint.read(path)
        made = cls.__new__(cls)
        with damage(path):
            made.__setstate__({"config": config, "state": state})
        return made
