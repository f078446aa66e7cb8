"""GenePool: a population of latent genes that evolves by selection, mating and migration.

The genetic part of Evolutionary Policy Optimization (Wang et al. 2025, arXiv 2503.19037): a gene
is a latent vector on which a policy is conditioned, and the fitness of a gene is what the policy
earns with it. The class checks what comes and keeps one state; the maths is in
:mod:`bgs_opt.gene_operators`, the order of the steps in :mod:`bgs_opt.gene_generation`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy.typing as npt

from bgs_opt import gene_generation, gene_keeping
from bgs_opt.gene_generation import Diversity, EvolutionReport, IslandFitness
from bgs_opt.gene_state import (
    BestGene,
    GeneConfig,
    GeneState,
    configure,
    first_genes,
    fitnesses_of,
    genes_of,
    read_only,
)
from bgs_opt.protocols import FloatArray, IntArray
from bgs_opt.streams import SeedLike, entropy_of

__all__ = ["GenePool"]

G = TypeVar("G", bound="GenePool")


class GenePool:
    """Genes on the unit sphere, in islands, maximised by a genetic algorithm.

    A generation is told the fitness of every gene. On each island the fittest survive, in their
    places; the places of the others go to children of two survivors; all but the elites are
    mutated; and now and then some genes move to the next island of the ring. A method that fails
    leaves the pool as it was; nothing guards one that several threads change at once.

    Parameters
    ----------
    dim : int
        Numbers in a gene, d.
    genes_per_island : int
        G; of less than 3 there is no room for children.
    islands : int
        Populations that mate among themselves only.
    num_selected : int, optional
        Survivors of each island, 2 to G - 1 (where G > 2); by default half of its genes.
    tournament_size : int, optional
        Survivors that are drawn for each child, 2 to num_selected; the two fittest of them are
        its parents. By default half of the survivors. More means more pressure.
    num_elites : int, optional
        The fittest of each island, 0 to num_selected: neither mutated nor sent away. By default
        an eighth of the genes, 1 at least. Survivors that are no elites mutate like children;
        with ``num_selected`` elites only children do.
    mutation_std : float, optional
        Standard deviation of the noise in each coordinate, >= 0; a gene has the length 1. By
        default 0.2 / sqrt(d), so that the noise has a length of about 0.2 in any dimension.
    migrate_every : int
        Generations between two migrations.
    migrate_fraction : float
        Share of the genes of an island that are no elites which move then, 0 to 1: rounded, but
        1 at least unless it is 0. Those next in rank after the elites move.
    crossover_temperature : float
        > 0. Near 0 a child has each coordinate from either parent, far above 1 the middle.
    seed : None, int, SeedSequence or Generator
        The same seed and fitnesses give the same bits.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) naming the argument, what was expected and what came.

    References
    ----------
    .. [1] Wang et al. 2025, Evolutionary Policy Optimization, arXiv 2503.19037.

    Examples
    --------
    >>> import numpy as np
    >>> from bgs_opt import GenePool
    >>> target = np.array([0.6, 0.0, -0.8])
    >>> pool = GenePool(3, 16, islands=2, seed=1)
    >>> for _ in range(40):
    ...     report = pool.tell(pool.ask() @ target)
    >>> bool(pool.best.fitness > 0.999), pool.generation, len(report.children)
    (True, 40, 16)
    """

    def __init__(
        self,
        dim: int,
        genes_per_island: int,
        islands: int = 1,
        num_selected: int | None = None,
        tournament_size: int | None = None,
        num_elites: int | None = None,
        mutation_std: float | None = None,
        migrate_every: int = 10,
        migrate_fraction: float = 0.1,
        crossover_temperature: float = 1.5,
        seed: SeedLike = None,
    ) -> None:
        self._config = configure(
            dim, genes_per_island, islands, num_selected, tournament_size, num_elites,
            mutation_std, migrate_every, migrate_fraction, crossover_temperature,
            entropy_of(seed),
        )  # fmt: skip
        self._state = first_genes(self._config)

    def __len__(self) -> int:
        return self._config.size

    def __repr__(self) -> str:
        shape = f"{self.dim}, {self.genes_per_island}, {self.islands}"
        return f"<GenePool({shape}) in generation {self.generation}>"

    # ---- what there is

    @property
    def genes(self) -> FloatArray:
        """All genes, island by island: read-only float64, shape (islands * G, d)."""
        return read_only(self._state.genes)

    @property
    def dim(self) -> int:
        """Numbers in a gene."""
        return self._config.dim

    @property
    def islands(self) -> int:
        """Number of islands."""
        return self._config.islands

    @property
    def genes_per_island(self) -> int:
        """Genes of each island."""
        return self._config.genes_per_island

    @property
    def generation(self) -> int:
        """How often the pool was told."""
        return self._state.generation

    @property
    def fitnesses(self) -> FloatArray:
        """What was told last, by the places of that time: read-only float64, shape (n,).

        NaN before. Elites are still what they were; other places may have another gene by now.
        """
        return read_only(self._state.fitnesses)

    @property
    def fittest(self) -> int:
        """Place of the gene that was the fittest when last told; 0 before.

        It is an elite and as it was, unless there are none: then it was mutated, and may have
        moved.
        """
        return self._state.fittest

    @property
    def lineages(self) -> IntArray:
        """Island on which the line of each gene began: read-only int64, shape (n,).

        A child continues the line of its fitter parent; moving genes take theirs along.
        """
        return read_only(self._state.lineages)

    @property
    def best(self) -> BestGene | None:
        """The gene with the largest finite fitness so far; None before there was one."""
        best = self._state.best
        return None if best is None else BestGene(read_only(best.gene), best.fitness)

    @property
    def island_fitness(self) -> IslandFitness:
        """Best and mean fitness of each island, as last told."""
        return gene_generation.island_fitness(self._state.fitnesses, self.islands)

    def diversity(self) -> Diversity:
        """Mean cosine distance of two genes, from 0 to about 1: over all, and by island."""
        return gene_generation.diversity(self._state.genes, self.islands)

    # ---- what happens

    def evolve(self, fitnesses: npt.ArrayLike) -> EvolutionReport:
        """Close a generation: select, mate, mutate, and migrate when it is time.

        Parameters
        ----------
        fitnesses : array_like of float, shape (n,)
            Of each gene, in the order of :attr:`genes`; larger is better. NaN and infinities
            are genes that failed: none is selected.

        Returns
        -------
        EvolutionReport
            If no fitness is finite, ``evolved`` is False and the genes are as they were; an
            island without a finite one waits for genes of the next migration.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the fitnesses do not fit; nothing has changed then.

        Examples
        --------
        >>> from bgs_opt import GenePool
        >>> pool = GenePool(2, 4, num_selected=2, seed=0)
        >>> report = pool.evolve([0.0, 3.0, 2.0, float("nan")])
        >>> report.survivors, report.elites, report.children, report.parents.tolist()
        (array([1, 2]), array([1]), array([0, 3]), [[1, 2], [1, 2]])
        """
        told = fitnesses_of(fitnesses, len(self))
        self._state, report = gene_generation.evolved(self._config, self._state, told)
        return report

    def ask(self) -> FloatArray:
        """Return a copy of all genes, to be evaluated; shape (n, d)."""
        return self._state.genes.copy()

    def tell(self, fitnesses: npt.ArrayLike) -> EvolutionReport:
        """Tell the fitness of each gene that was asked: :meth:`evolve` by its other name."""
        return self.evolve(fitnesses)

    def move(self, genes: npt.ArrayLike) -> None:
        """Put other genes in the places of all, after a gradient step on them, say.

        Fitnesses, lineages, the best gene and the generation stay.

        Parameters
        ----------
        genes : array_like of float, shape (n, d)
            Brought to norm one. A row that equals the gene of its place changes no bit of it.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            For another shape, numbers that are not finite, and a row of zeros, which has no
            direction.
        """
        state = self._state
        self._state = dataclasses.replace(state, genes=genes_of(genes, state.genes))

    # ---- keeping

    def state_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and copies of arrays; see :meth:`from_state`."""
        return gene_keeping.to_dict(self._config, self._state)

    @classmethod
    def from_state(cls: type[G], state: Mapping[str, Any]) -> G:
        """Make a pool that goes on bit for bit where ``state_dict`` was called.

        Raises
        ------
        CheckpointError
            If it is not the state of a pool.

        Examples
        --------
        >>> from bgs_opt import GenePool
        >>> pool = GenePool(3, 4, seed=0)
        >>> bool((GenePool.from_state(pool.state_dict()).genes == pool.genes).all())
        True
        """
        return cls._of(*gene_keeping.from_dict(state))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pool to a .npz file, atomically; see :mod:`bgs_opt.gene_keeping`."""
        gene_keeping.write(path, self._config, self._state)

    @classmethod
    def load(cls: type[G], path: str | os.PathLike[str]) -> G:
        """Read a pool back; it goes on bit for bit where it was saved.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another format, or of something else.
        """
        return cls._of(*gene_keeping.read(path))

    @classmethod
    def _of(cls: type[G], config: GeneConfig, state: GeneState) -> G:
        made = cls.__new__(cls)
        made._config, made._state = config, state
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state_dict(),)
