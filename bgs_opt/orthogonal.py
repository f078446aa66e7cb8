"""Orthogonal rows at the least price that a generation allows.

The automatic step rule asks for a whole basis in one generation and for a few dozen directions
in the next. The basis has to be exact, by QR. A few rows of the structured ensemble are
orthogonal too (over whole tiles, see ``hadamard.py``), and take less time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.directions import QR
from bgs_opt.hadamard import Hadamard, ensemble_size, tiles_of
from bgs_opt.protocols import Block, Directions, FloatArray, IntArray, Layout

__all__ = ["Orthogonal", "OrthogonalDirections"]


class OrthogonalDirections:
    """QR, but for generations that are small enough for the structured rows."""

    def __init__(self, dim: int, exact: Directions, structured: Directions) -> None:
        self.dim, self.exact, self.structured = dim, exact, structured
        self.most = ensemble_size(tiles_of(dim))  # rows that are orthogonal to each other

    def of(self, pairs: int) -> Directions:
        """The directions of a generation that waits for ``pairs`` of them."""
        return self.structured if pairs <= self.most else self.exact

    def blocks(self, generation: int, indices: IntArray, gains: FloatArray) -> Iterator[Block]:
        """See :class:`bgs_opt.protocols.Directions`; of a generation of any size."""
        return self.exact.blocks(generation, indices, gains)


@dataclass(frozen=True)
class Orthogonal:
    """What ``sampler="orthogonal"`` is where generations differ in size."""

    def bind(
        self, dim: int, num_directions: int, dtype: np.dtype[Any], entropy: int, layout: Layout
    ) -> Directions:
        """See :class:`bgs_opt.protocols.Sampler`."""
        exact, structured = (
            kind.bind(dim, num_directions, dtype, entropy, layout) for kind in (QR(), Hadamard())
        )
        return OrthogonalDirections(dim, exact, structured)
