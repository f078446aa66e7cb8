"""Random directions as torch tensors, each made again from (entropy, generation, index).

What ``bgs_opt.directions`` is to NumPy: ``e_i`` of Abeyruwan et al. 2022 (arXiv 2207.06572),
eq. 3, with norm about sqrt(d), on any device and in any floating dtype. A population of N pairs
has the ends ``center + stdev e_i`` and ``center - stdev e_i`` in the rows 2i and 2i + 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch

from bgs_opt.bounds import reflect
from bgs_opt.directions import normal_quantiles
from bgs_opt.hadamard import ensemble_size, tiles_of
from bgs_opt.validation import choice

from .evotorch_hadamard import hadamard_rows

__all__ = ["SAMPLERS", "Box", "Rows", "mixed", "sampler_of"]

SAMPLERS = ("gaussian", "gaussian_table", "hadamard", "orthogonal", "rademacher")
Piece = tuple[slice, slice, torch.Tensor]
Box = tuple[torch.Tensor, torch.Tensor]

_MASK = (1 << 64) - 1
_BLOCK = {"cpu": 1 << 16}  # numbers made at a time: what a core's cache holds, ...
_LARGE_BLOCK = 1 << 23  # ... and on other devices what is worth starting them for
_FOLDED = 1 << 22  # numbers folded into the bounds at a time
_LONG = 4096  # numbers of a row
_CROWDED = 4  # directions beyond a quarter of the dimension: there orthogonal ones pay


def sampler_of(name: object, dim: int, num_directions: int) -> str:
    """Checked name of a sampler; None: the cheapest among the best for so many directions.

    N orthogonal directions of d have d - N, independent ones d + 1 in the numerator of the
    variance of an estimate (Choromanski et al. 2018, arXiv 1804.02395): next to nothing for
    N << d. There those by QR cost several times as much; structured ones cost least of all
    where a row is long.
    """
    if name is None and dim > _CROWDED * num_directions:
        return "hadamard" if dim >= _LONG else "gaussian_table"
    if name is None:
        return "orthogonal"
    return choice("sampler", name, SAMPLERS)


def mixed(*numbers: int) -> int:
    """A seed from several numbers, by the finaliser of SplitMix64 (Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


@functools.lru_cache(maxsize=8)
def _normal_table(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """See :func:`bgs_opt.directions.normal_quantiles`; shape (65536,)."""
    return torch.tensor(normal_quantiles("<f8"), dtype=dtype, device=device)


@functools.lru_cache(maxsize=8)
def _sign_table(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The eight signs that each byte stands for, shape (256, 8)."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return (1 - 2 * bits).to(device, dtype)


def _random_bits(
    count: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    """Random integers of all values of an integer ``dtype``, as int32, shape (count,)."""
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=device)
    return words.random_(-(1 << 63), None, generator=generator).view(dtype)[:count].int()


@dataclass(frozen=True)
class Rows:
    """The directions of a run.

    Parameters
    ----------
    sampler : {"gaussian", "gaussian_table", "hadamard", "orthogonal", "rademacher"}
        Independent standard normal numbers; normal quantiles of 16 random bits each, which are
        less work; structured rows of norm sqrt(d), orthogonal within blocks of 128; rows of norm
        sqrt(d) by QR, orthogonal within blocks of min(N, d); independent signs.
    dim, num_directions : int
        d and N.
    entropy : int
        Which run, 0 <= entropy < 2**63.
    """

    sampler: str
    dim: int
    num_directions: int
    entropy: int

    def ensemble(self, device: torch.device) -> int:
        """Rows that come from one stream: they are always made together."""
        if self.sampler == "orthogonal":
            return min(self.num_directions, self.dim)
        if self.sampler == "hadamard":
            return ensemble_size(tiles_of(self.dim))
        most = max(1, _BLOCK.get(device.type, _LARGE_BLOCK) // self.dim)
        return -(-self.num_directions // -(-self.num_directions // most))

    def pieces(
        self, generation: int, first: int, count: int, like: torch.Tensor
    ) -> Iterator[Piece]:
        """Directions ``first``, ``first + 1``, ... piece by piece.

        Parameters
        ----------
        generation, first, count : int
        like : tensor, shape (d,)
            Gives dtype and device.

        Yields
        ------
        rows, cols, block : slice, slice, tensor of shape (rows, cols)
            ``rows`` count from ``first``; ``block`` is scratch until the next piece.
        """
        size = self.ensemble(like.device)
        for number in range(first // size, -(-(first + count) // size)):
            seed = mixed(self.entropy, generation, number)
            start = max(first, number * size)
            within = range(start - number * size, min(first + count - number * size, size))
            made = self._hadamard if self.sampler == "hadamard" else self._drawn
            for rows, cols, block in made(seed, size, within, like):
                yield slice(start - first + rows.start, start - first + rows.stop), cols, block

    def _hadamard(
        self, seed: int, size: int, within: range, like: torch.Tensor
    ) -> Iterator[Piece]:
        numbers = 4 * _BLOCK.get(like.device.type, _LARGE_BLOCK // 4)  # fewer calls pay more here
        return hadamard_rows(seed, within, like, numbers)

    def _drawn(self, seed: int, size: int, within: range, like: torch.Tensor) -> Iterator[Piece]:
        """All rows of the block are drawn, whichever are wanted: the same numbers every time."""
        generator = None if like.is_meta else torch.Generator(like.device).manual_seed(seed)
        tile = self.dim
        if size == 1 and self.sampler != "orthogonal":
            tile = min(tile, _BLOCK.get(like.device.type, _LARGE_BLOCK))
        scratch = like.new_empty((size, tile))
        for left in range(0, self.dim, tile):
            block = scratch[:, : self.dim - left]
            if self.sampler == "gaussian_table":
                table = _normal_table(block.dtype, block.device)
                index = _random_bits(block.numel(), torch.int16, block.device, generator)
                torch.index_select(table, 0, index.add_(1 << 15), out=block.view(-1))
            elif self.sampler == "rademacher":
                table = _sign_table(block.dtype, block.device)
                index = _random_bits(-(-block.numel() // 8), torch.uint8, block.device, generator)
                signs = table.index_select(0, index).view(-1)[: block.numel()]
                block.copy_(signs.view_as(block))
            else:
                block.normal_(generator=generator)
            if self.sampler == "orthogonal":
                block = _orthogonal(block)
            cols = slice(left, left + block.shape[1])
            yield slice(0, len(within)), cols, block[within.start : within.stop]

    def perturb(
        self, generation: int, first: int, center: torch.Tensor, stdev: torch.Tensor,
        out: torch.Tensor, box: Box | None = None,
    ) -> None:  # fmt: skip
        """Write solutions: both ends of the directions from ``first`` on, perhaps the center.

        Parameters
        ----------
        generation, first : int
        center, stdev : tensor, shape (d,)
        out : tensor, shape (2n, d) or (2n + 1, d)
            Both ends of each direction in turn; the center in a last row that is left.
        box : tuple of tensors, shape (d,), optional
            Lower and upper bounds that the ends are folded into.
        """
        pairs = out[: len(out) // 2 * 2]
        plus, minus = pairs[0::2], pairs[1::2]
        for rows, cols, block in self.pieces(generation, first, len(plus), center):
            scaled = block.mul_(stdev[cols])
            torch.add(center[cols], scaled, out=plus[rows, cols])
            torch.sub(center[cols], scaled, out=minus[rows, cols])
        if box is not None:
            for part in pairs.split(max(1, _FOLDED // self.dim)):
                part.copy_(reflect(part, *box))
        if len(out) > len(pairs):
            out[-1] = center

    def weighted_sum(
        self, generation: int, index: list[int], weights: list[float], out: torch.Tensor
    ) -> torch.Tensor:
        """Add ``sum_i w_i e_i`` to ``out``, shape (d,), one row after the other.

        The order is that of ``index``, so that the bits depend on nothing else.
        """
        size = self.ensemble(out.device)
        start = 0
        while start < len(index):
            stop = start + 1
            while stop < len(index) and index[stop] // size == index[start] // size:
                stop += 1
            low, high = min(index[start:stop]), max(index[start:stop])
            for rows, cols, block in self.pieces(generation, low, high - low + 1, out):
                for place in range(start, stop):
                    row = index[place] - low - rows.start
                    if 0 <= row < len(block):
                        out[cols].add_(block[row], alpha=weights[place])
            start = stop
        return out


def _orthogonal(rows: torch.Tensor) -> torch.Tensor:
    """Gaussian rows made orthogonal, each of norm sqrt(d) (Choromanski et al. 2018, sec. 3.1)."""
    wide = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
    q, r = torch.linalg.qr(wide.T)
    # positive diagonal of R: uniform over the orthogonal group (Mezzadri 2007)
    q = q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0)
    return (q.T * math.sqrt(rows.shape[1])).to(rows.dtype)
