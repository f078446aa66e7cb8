"""Array aliases and the Protocols behind which samplers, optimizers and schedules stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCK_NUMBERS",
    "Array",
    "Block",
    "Directions",
    "FloatArray",
    "IntArray",
    "Layout",
    "Optimizer",
    "OptimizerState",
    "Sampler",
    "Schedule",
]

Array: TypeAlias = Any
"""An array of any namespace that follows the Python array API (NumPy, torch, ...)."""
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]
Layout: TypeAlias = Mapping[str, tuple[int, ...]]
"""Named blocks of the flat vector, in order: ``{"w1": (64, 24), "b1": (24,)}``."""
Block: TypeAlias = tuple[slice, slice, FloatArray]
"""Positions among the asked rows, columns of the vector, and their numbers (a scratch array)."""
OptimizerState: TypeAlias = dict[str, Any]

BLOCK_NUMBERS = 1 << 16
"""Numbers in one scratch block: 256 KiB of float32, which stays in a second-level cache."""


class Directions(Protocol):
    """Directions of one run: a pure function of (entropy, generation, index)."""

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """Yield ``gains[i] * e_i`` for all ``indices``, piece by piece.

        Parameters
        ----------
        generation : int
            Number of the generation, 0 or more.
        indices : ndarray of int64, shape (n,)
            Which directions, in any order.
        gains : ndarray of float, shape (n,)
            A factor for each row.

        Yields
        ------
        rows, cols, block : slice, slice, ndarray of shape (rows, cols)
            ``block`` is scratch: it may be overwritten and is valid until the next piece.
            The pieces of a row come in the order of the columns.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """How directions are drawn; a frozen description without state."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """Fix everything that does not change during a run."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """A rule that follows a gradient estimate; ``init`` and ``step`` are pure but for buffers."""

    def init(self, center: Array) -> OptimizerState:
        """State before the first step; its arrays are like ``center``."""
        ...

    def step(
        self, gradient: Array, state: OptimizerState, learning_rate: float
    ) -> tuple[Array, OptimizerState]:
        """Ascent step ``delta``; may overwrite ``gradient`` and the arrays of ``state``."""
        ...

    def default_learning_rate(self, sigma: float, dim: int) -> float:
        """The rate that is used when the caller gives none."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """A factor on a starting value, by the number of the generation."""

    def __call__(self, generation: int) -> float:
        """Return the factor, positive and finite."""
        ...
