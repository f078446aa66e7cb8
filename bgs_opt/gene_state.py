"""A pool of genes as data: what never changes, what does, and how both are checked.

Genes are points of the unit sphere, island by island; see :mod:`bgs_opt.gene_generation` for what
happens to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bgs_opt.gene_operators import normalized, random_genes
from bgs_opt.protocols import FloatArray, IntArray
from bgs_opt.streams import generator_at
from bgs_opt.validation import as_array, integer, real, wrong_type, wrong_value

__all__ = [
    "BestGene",
    "GeneConfig",
    "GeneState",
    "configure",
    "first_genes",
    "fitnesses_of",
    "genes_of",
    "read_only",
]

_START = 7  # purpose of the stream; samplers have those below
_LARGEST = 1 << 40  # numbers in a pool


class BestGene(NamedTuple):
    """The gene of the largest finite fitness so far, of norm one, and that fitness."""

    gene: FloatArray
    fitness: float


@dataclass(frozen=True)
class GeneConfig:
    """The checked arguments of a pool."""

    dim: int
    genes_per_island: int
    islands: int
    num_selected: int
    tournament_size: int
    num_elites: int
    mutation_std: float
    migrate_every: int
    migrate_fraction: float
    crossover_temperature: float
    entropy: int

    @property
    def size(self) -> int:
        """Genes in the pool."""
        return self.islands * self.genes_per_island

    @property
    def num_migrants(self) -> int:
        """Genes that leave each island when it is time."""
        if self.islands == 1 or self.migrate_fraction == 0:
            return 0
        free = self.genes_per_island - self.num_elites
        return min(free, max(1, round(self.migrate_fraction * free)))


@dataclass(frozen=True, eq=False)
class GeneState:
    """All that changes; replaced as a whole, its arrays are never written."""

    genes: FloatArray
    lineages: IntArray
    fitnesses: FloatArray
    generation: int = 0
    fittest: int = 0
    best: BestGene | None = None

    def __post_init__(self) -> None:
        for array in (self.genes, self.lineages, self.fitnesses):
            array.setflags(write=False)


def configure(
    dim: int,
    genes_per_island: int,
    islands: int,
    num_selected: int | None,
    tournament_size: int | None,
    num_elites: int | None,
    mutation_std: float | None,
    migrate_every: int,
    migrate_fraction: float,
    crossover_temperature: float,
    entropy: int,
) -> GeneConfig:
    """Check the arguments of a pool and fill in the defaults; see :class:`GenePool`."""
    dim = integer("dim", dim, 1, 1 << 30)
    genes = integer("genes_per_island", genes_per_island, 1, 1 << 30)
    islands = integer("islands", islands, 1, 1 << 30)
    if genes * islands * dim > _LARGEST:
        wrong_value("genes_per_island", f"at most {_LARGEST} numbers in all genes", genes)
    fewest = min(2, genes)  # one or two genes stay for ever: there is no place for children
    selected = max(fewest, genes // 2) if num_selected is None else num_selected
    selected = integer("num_selected", selected, fewest, max(fewest, genes - 1))
    size = max(fewest, selected // 2) if tournament_size is None else tournament_size
    size = integer("tournament_size", size, fewest, selected)
    elites = min(max(1, genes // 8), selected) if num_elites is None else num_elites
    elites = integer("num_elites", elites, 0, selected)
    std = 0.2 / dim**0.5 if mutation_std is None else mutation_std
    return GeneConfig(
        dim, genes, islands, selected, size, elites,
        real("mutation_std", std, 0, 1e6),
        integer("migrate_every", migrate_every, 1),
        real("migrate_fraction", migrate_fraction, 0, 1),
        real("crossover_temperature", crossover_temperature, 0, open_low=True),
        entropy,
    )  # fmt: skip


def first_genes(config: GeneConfig) -> GeneState:
    """Return random points of the sphere, island by island."""
    genes = [
        random_genes(
            config.genes_per_island, config.dim, generator_at(config.entropy, _START, 0, island)
        )
        for island in range(config.islands)
    ]
    lineages = np.repeat(np.arange(config.islands, dtype=np.int64), config.genes_per_island)
    return GeneState(np.concatenate(genes), lineages, np.full(config.size, np.nan))


def fitnesses_of(fitnesses: npt.ArrayLike, count: int) -> FloatArray:
    """Checked copy of what was told, float64, shape (count,); NaN and infinities may be there."""
    expected = f"{count} real numbers, one for each gene"
    array = as_array("fitnesses", expected, fitnesses)
    if array.dtype.kind not in "fiu":
        wrong_type("fitnesses", expected, fitnesses)
    if array.shape != (count,):
        wrong_value("fitnesses", f"{expected}, shape ({count},)", array)
    return array.astype(np.float64)


def genes_of(genes: npt.ArrayLike, before: FloatArray) -> FloatArray:
    """Checked copy of genes, of norm one; a row that equals the one before keeps its bits."""
    expected = f"finite real numbers of shape {before.shape}, no row of zeros"
    array = as_array("genes", expected, genes)
    if array.dtype.kind not in "fiu":
        wrong_type("genes", expected, genes)
    if array.shape != before.shape:
        wrong_value("genes", expected, array)
    points = array.astype(np.float64)
    wrong = ~np.isfinite(points).all(axis=1) | ~points.any(axis=1)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        wrong_value("genes", expected, f"{points[at]} in row {at}")
    same = (points == before).all(axis=1, keepdims=True)
    return np.where(same, before, normalized(points, before))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view that cannot be written."""
    view = array.view()
    view.setflags(write=False)
    return view
