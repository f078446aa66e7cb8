"""A pool of genes as a dict of plain numbers and arrays, and as a file of :mod:`bgs_opt.archive`.

What comes back is checked like arguments are: sizes, types, norms. No number of it decides how
much memory is taken, because every array has to have the shape that the numbers name.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bgs_opt import archive
from bgs_opt.archive import damage
from bgs_opt.atomic import replaced
from bgs_opt.errors import BGSError, CheckpointError
from bgs_opt.gene_state import BestGene, GeneConfig, GeneState, configure
from bgs_opt.validation import describe, integer, real

__all__ = ["FORMAT", "from_dict", "read", "to_dict", "write"]

FORMAT = 1
_FIELDS = tuple(field.name for field in dataclasses.fields(GeneConfig))
_NUMBERS = ("format", *_FIELDS, "generation", "fittest", "best_fitness")
_ARRAYS = ("genes", "lineages", "fitnesses", "best_gene")


def to_dict(config: GeneConfig, state: GeneState) -> dict[str, Any]:
    """Numbers and copies of the arrays; what was never told has a ``best_fitness`` of NaN."""
    best = state.best or BestGene(np.full(config.dim, np.nan), np.nan)
    return {
        "format": FORMAT,
        **{name: getattr(config, name) for name in _FIELDS},
        "generation": state.generation,
        "fittest": state.fittest,
        "best_fitness": best.fitness,
        "genes": state.genes.copy(),
        "lineages": state.lineages.copy(),
        "fitnesses": state.fitnesses.copy(),
        "best_gene": best.gene.copy(),
    }


def from_dict(saved: Mapping[str, Any]) -> tuple[GeneConfig, GeneState]:
    """Check what :func:`to_dict` returned, and make configuration and state of it.

    Raises
    ------
    CheckpointError
        If a key is missing or unknown, or a number or array cannot be of a pool.
    """
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"state: expected a mapping; got {describe(saved)}")
    different = {*_NUMBERS, *_ARRAYS} ^ set(saved)
    if different:
        raise CheckpointError(
            "state: expected the keys of GenePool.state_dict(); missing or unknown: "
            + ", ".join(sorted(map(str, different)))
        )
    unset = [name for name in _FIELDS if saved[name] is None]  # it would mean the default
    if unset:
        raise CheckpointError(f"{unset[0]}: expected a number; got None")
    try:
        integer("format", saved["format"], FORMAT, FORMAT)
        entropy = integer("entropy", saved["entropy"], 0, (1 << 128) - 1)
        config = configure(**{name: saved[name] for name in _FIELDS} | {"entropy": entropy})
        generation = integer("generation", saved["generation"], 0, (1 << 63) - 1)
        fittest = integer("fittest", saved["fittest"], 0, config.size - 1)
    except BGSError as error:
        raise CheckpointError(str(error)) from error
    genes = _array(saved, "genes", np.float64, (config.size, config.dim))
    _check_sphere("genes", genes)
    lineages = _array(saved, "lineages", np.int64, (config.size,))
    if lineages.min() < 0 or lineages.max() >= config.islands:
        raise CheckpointError(f"lineages: expected islands from 0 to {config.islands - 1}")
    fitnesses = _array(saved, "fitnesses", np.float64, (config.size,))
    return config, GeneState(genes, lineages, fitnesses, generation, fittest, _best(saved, config))


def _best(saved: Mapping[str, Any], config: GeneConfig) -> BestGene | None:
    gene = _array(saved, "best_gene", np.float64, (config.dim,))
    fitness = saved["best_fitness"]
    if isinstance(fitness, float) and np.isnan(fitness) and np.isnan(gene).all():
        return None
    try:
        fitness = real("best_fitness", fitness)
    except BGSError as error:
        raise CheckpointError(str(error)) from error
    _check_sphere("best_gene", gene[None])
    return BestGene(gene, fitness)


def _array(
    saved: Mapping[str, Any], name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Copy of an array that has to have this dtype and shape."""
    array = saved[name]
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        raise CheckpointError(
            f"{name}: expected an array of shape {shape} and dtype {np.dtype(dtype)}; got "
            f"{describe(array)}"
        )
    return np.array(array, order="C")


def _check_sphere(name: str, points: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(np.sqrt(np.sum(points * points, axis=1)) - 1)
    if not (off < 1e-9).all():
        raise CheckpointError(f"{name}: expected points of norm 1; some are not")


def write(path: str | os.PathLike[str], config: GeneConfig, state: GeneState) -> None:
    """Write a pool to ``path``, or leave the file that was there as it was."""
    saved = to_dict(config, state)
    body = json.dumps({"gene_pool": {name: saved[name] for name in _NUMBERS}})
    with replaced(path) as file:
        archive.dump(file, FORMAT, body, {name: saved[name] for name in _ARRAYS})


def read(path: str | os.PathLike[str]) -> tuple[GeneConfig, GeneState]:
    """Read a pool back; never runs code from the file.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another format version, or of something else.
    FileNotFoundError
        If there is no such file.
    """
    with damage(path), archive.opened(path) as file:
        body, arrays = archive.load(file, os.fspath(path), FORMAT)
        if "gene_pool" not in body:
            raise CheckpointError(f"{os.fspath(path)}: expected a gene pool; got something else")
        return from_dict({**body["gene_pool"], **arrays})
