"""Counter-based random streams: a number is a function of (entropy, generation, index).

Philox 4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") has a 128-bit
key, which is the run's entropy, and a 256-bit counter, which says where in the run we are.
Nothing is ever drawn in sequence over a run, so any row can be made again at any time,
anywhere, and the global random state is neither read nor written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.protocols import IntArray
from bgs_opt.validation import describe

__all__ = ["Stream", "entropy_of", "evaluation_seeds", "generator_at"]

_MASK = (1 << 64) - 1
SeedLike = int | np.random.SeedSequence | np.random.Generator | None


def entropy_of(seed: SeedLike) -> int:
    """Return the 128-bit entropy of a run.

    Parameters
    ----------
    seed : None, int, SeedSequence or Generator
        None draws fresh entropy from the operating system; a Generator is advanced by two
        64-bit draws; an int or SeedSequence is hashed.

    Returns
    -------
    int
        0 <= entropy < 2**128.
    """
    if isinstance(seed, np.random.Generator):
        low, high = (
            int(v) for v in seed.integers(0, _MASK, size=2, dtype=np.uint64, endpoint=True)
        )
        return low | high << 64
    if isinstance(seed, (bool, np.bool_)) or not (
        seed is None or isinstance(seed, (int, np.integer, np.random.SeedSequence))
    ):
        raise ArgumentTypeError(
            "seed: expected None, an int >= 0, a numpy SeedSequence or Generator; "
            f"got {describe(seed)}"
        )
    if isinstance(seed, (int, np.integer)):
        if seed < 0:
            raise ArgumentValueError(f"seed: expected an int >= 0; got {describe(seed)}")
        seed = int(seed)
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    low, high = (int(v) for v in sequence.generate_state(2, np.uint64))
    return low | high << 64


class Stream:
    """A numpy Generator that can be set to any place of the run (about 2 us a jump)."""

    def __init__(self, entropy: int, purpose: int) -> None:
        self._bits = np.random.Philox(key=entropy)
        self._state: Any = self._bits.state
        self._counter = self._state["state"]["counter"]
        self._purpose = purpose
        self.generator = np.random.Generator(self._bits)

    def jump(self, generation: int, index: int) -> np.random.Generator:
        """Set the generator to the start of the given row and return it."""
        self._counter[:] = (0, self._purpose, index & _MASK, generation & _MASK)
        self._state["buffer_pos"] = 4
        self._state["has_uint32"] = 0
        self._state["uinteger"] = 0
        self._bits.state = self._state
        return self.generator

    def raw(self, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Next ``count`` words of 64 random bits."""
        words: np.ndarray[Any, np.dtype[np.uint64]] = self._bits.random_raw(count)
        return words


def generator_at(entropy: int, purpose: int, generation: int, index: int) -> np.random.Generator:
    """What :meth:`Stream.jump` returns, where a single one is needed."""
    counter = (generation & _MASK) << 192 | (index & _MASK) << 128 | purpose << 64
    return np.random.Generator(np.random.Philox(key=entropy, counter=counter))


def evaluation_seeds(entropy: int, generation: int, index: IntArray, repeat: IntArray) -> IntArray:
    """Seeds for the evaluations themselves (a simulator's episode, say).

    Parameters
    ----------
    index, repeat : ndarray of int64, shape (n,)
        Which group shares a seed, and the repeat within it.

    Returns
    -------
    ndarray of int64, shape (n,)
        In [0, 2**32), as environments and ``numpy.random.seed`` take them; made by
        ``SeedSequence(entropy, spawn_key=(generation, index, repeat))``.
    """
    made: dict[tuple[int, int], int] = {}
    out = np.empty(len(index), np.int64)
    for position, key in enumerate(zip(index.tolist(), repeat.tolist(), strict=True)):
        if key not in made:
            sequence = np.random.SeedSequence(entropy, spawn_key=(generation, *key))
            made[key] = int(sequence.generate_state(1, np.uint32)[0])
        out[position] = made[key]
    return out
