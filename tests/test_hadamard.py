"""Structured orthogonal rows against the dense product H D1 H D2 H D3 of their own signs.

The signs are recorded as the module draws them; everything else is built here again with
``scipy.linalg.hadamard`` and dense diagonals. All numbers are integers over P, so that "equal"
means equal to the last bit.
"""

import numpy as np
import pytest
from scipy.linalg import hadamard

from bgs_opt import hadamard as module
from bgs_opt.hadamard import Hadamard
from bgs_opt.walsh import hadamard_transform
from tests.conformance import ENTROPY, SamplerConformance, rows_of

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class TestHadamard(SamplerConformance):
    sampler = Hadamard()
    low_dim_count = 140  # more than the 128 rows of an ensemble


# ---- the transform


@pytest.mark.parametrize("bits", range(12))
@DTYPES
def test_the_transform_is_the_product_with_the_hadamard_matrix(bits, dtype):
    size = 1 << bits
    x = np.random.default_rng(bits).integers(-100, 100, (3, 2, size)).astype(np.float64)
    expected = x @ hadamard(size, dtype=np.float64) if size > 1 else x
    before = x.astype(dtype)
    given = before.copy()
    out = hadamard_transform(given)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(given, before)


def test_the_transform_of_the_largest_tile_is_its_own_inverse():
    size = 1 << 15
    x = np.random.default_rng(0).integers(-9, 9, size).astype(np.float32)
    np.testing.assert_array_equal(hadamard_transform(hadamard_transform(x)), x * size)


def test_the_transform_takes_views_with_strides():
    x = np.arange(64.0)[::-2].reshape(2, 16)[:, ::2]
    np.testing.assert_array_equal(hadamard_transform(x), x @ hadamard(8))


# ---- tiles


def test_tiles_are_powers_of_two_and_only_a_short_remainder_is_padded():
    for dim in [*range(1, 600), 4095, 4096, 4097, 32_768, 65_535, 100_000, 1 << 20]:
        tiles = module.tiles_of(dim)
        starts = np.cumsum([0, *(t.used for t in tiles)]).tolist()
        assert [t.start for t in tiles] + [dim] == starts
        assert all(t.used == 1 << t.bits for t in tiles[:-1])
        last = tiles[-1]
        assert last.used == 1 << last.bits or (last.used < 128 == 1 << last.bits)
        assert max(t.bits for t in tiles) == tiles[0].bits <= 15


def test_the_tiles_of_the_docstring():
    sizes = [(1 << t.bits, t.used) for t in module.tiles_of(100_000)]
    assert sizes == [(32768, 32768)] * 3 + [(1024, 1024), (512, 512), (128, 128), (128, 32)]


# ---- eq. 1 against the dense product


class Recorder:
    """Keeps what the module draws while it makes ensembles."""

    def __init__(self, monkeypatch) -> None:
        self.forms, self.signs = [], []
        draw_form, draw_signs = module.quadratic_form, module._signs

        def form(generator, bits):
            self.forms.append(draw_form(generator, bits))
            return self.forms[-1]

        def signs(*arguments):
            for drawn in draw_signs(*arguments):
                self.signs.append([piece.astype(np.int64) for piece in drawn])
                yield drawn

        monkeypatch.setattr(module, "quadratic_form", form)
        monkeypatch.setattr(module, "_signs", signs)

    def diagonals(self, tile: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """D1, D2 and D3 of a tile of the one ensemble that was made, as integers."""
        quadratic, _ = self.forms[0]
        d1, linear, d2_low, d3_low, d3_high = self.signs[tile]
        high = len(quadratic)
        assert {len(linear), len(d3_high)} == {high}
        assert {len(d2_low), len(d3_low)} == {(1 << bits) // high}
        number = sum(1 << a for a in range(high.bit_length() - 1) if linear[a] < 0)
        parity = [bin(k & number).count("1") & 1 for k in range(high)]
        d2_high = [(-1) ** (int(quadratic[k]) + parity[k]) for k in range(high)]
        return d1, np.kron(d2_high, d2_low), np.kron(d3_high, d3_low)


def times_hadamard(rows: np.ndarray) -> np.ndarray:
    """rows @ H, dense; long rows by the transform (tested against dense above)."""
    size = rows.shape[1]
    if size > 2048:
        return hadamard_transform(rows.astype(np.float64)).astype(np.int64)
    dense = hadamard(size, dtype=np.float64) if size > 1 else np.ones((1, 1))
    return (rows.astype(np.float64) @ dense).astype(np.int64)


def dense_rows(diagonals, row_numbers: np.ndarray) -> np.ndarray:
    """P times the given rows of H D1 H D2 H D3 / P."""
    d1, d2, d3 = diagonals
    unit = np.zeros((len(row_numbers), len(d1)), np.int64)
    unit[np.arange(len(row_numbers)), row_numbers] = 1
    return times_hadamard(times_hadamard(times_hadamard(unit) * d1) * d2) * d3


@pytest.mark.parametrize("dim", [1, 2, 4, 8, 64, 100, 128, 256, 384, 1000, 2048, 4096, 32_768])
@DTYPES
def test_the_rows_are_those_of_the_dense_product_but_for_the_sign_of_a_row(
    dim, dtype, monkeypatch
):
    recorder = Recorder(monkeypatch)
    bound = Hadamard().bind(dim, 8, np.dtype(dtype), ENTROPY, {})
    count = min(dim, bound.ensemble_size, 16 if dim > 2048 else 128)
    fast = rows_of(bound, 3, np.arange(count), dtype)
    assert len(recorder.forms) == 1
    within = np.arange(count) ^ bound._ensemble(3, 0).base
    for number, tile in enumerate(bound.tiles):
        size = 1 << tile.bits
        d1, d2, d3 = diagonals = recorder.diagonals(number, tile.bits)
        for diagonal in diagonals:
            assert diagonal.shape == (size,)
            assert set(diagonal.tolist()) <= {-1, 1}
        row_numbers = within * (size // bound.ensemble_size)
        row_signs = d2[row_numbers] * d2[0]  # s_i of eq. 1
        expected = dense_rows(diagonals, row_numbers) * row_signs[:, None]
        ours = fast[:, tile.start : tile.start + tile.used].astype(np.float64)
        if tile.used == size:
            np.testing.assert_array_equal(ours * size, expected)
        else:  # the padded remainder has its norm adjusted
            used = expected[:, : tile.used]
            used = used * np.sqrt(tile.used / np.sum(used**2, axis=1, keepdims=True))
            np.testing.assert_allclose(ours, used, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("bits", range(1, 8))
def test_shifting_the_quadratic_form_is_a_walsh_function_and_a_sign(bits):
    """What lets a row be a permuted copy: (-1)^q(i^k) = s_i (-1)^q(k) H[A i, k]."""
    walsh = hadamard(1 << bits)
    for seed in range(5):
        values, image = module.quadratic_form(np.random.default_rng(seed), bits)
        signs, numbers = 1 - 2 * values, np.arange(1 << bits)
        for i in numbers:
            expected = signs[i] * signs[0] * signs * walsh[image[i]]
            np.testing.assert_array_equal(signs[i ^ numbers], expected)


def test_the_quadratic_form_is_not_linear_for_most_draws():
    singular = [not module.quadratic_form(np.random.default_rng(s), 7)[1].any() for s in range(50)]
    assert sum(singular) == 0


# ---- what follows from it


@pytest.mark.parametrize("dim", [1, 2, 4, 16, 128, 256, 4096, 128 + 256 + 1024, 65_536])
@DTYPES
def test_rows_over_full_tiles_are_orthogonal_with_norm_root_d_exactly(dim, dtype):
    bound = Hadamard().bind(dim, 8, np.dtype(dtype), ENTROPY, {})
    assert all(t.used == 1 << t.bits for t in bound.tiles)
    for number in (0, 1):  # also the second ensemble
        count = bound.ensemble_size if dim <= 4096 else 16
        indices = np.arange(count) + number * bound.ensemble_size
        rows = rows_of(bound, 0, indices, dtype).astype(np.float64)
        gram = np.zeros((count, count), np.int64)
        for tile in bound.tiles:
            size = 1 << tile.bits
            whole = rows[:, tile.start : tile.start + size] * size
            integers = whole.astype(np.int64)
            np.testing.assert_array_equal(integers, whole)
            products = integers @ integers.T
            np.testing.assert_array_equal(products, size**3 * np.eye(count, dtype=np.int64))
            gram += products // size**2
        np.testing.assert_array_equal(gram, dim * np.eye(count, dtype=np.int64))


@pytest.mark.parametrize("dim", [3, 5, 17, 100, 129, 200, 1000])
def test_rows_with_a_padded_remainder_are_orthogonal_over_the_full_tiles(dim):
    bound = Hadamard().bind(dim, 8, np.dtype(np.float64), ENTROPY, {})
    rows = rows_of(bound, 0, np.arange(64), np.float64)
    full = sum(t.used for t in bound.tiles if t.used == 1 << t.bits)
    np.testing.assert_array_equal(rows[:, :full] @ rows[:, :full].T, full * np.eye(64))
    rest = np.sum(rows[:, full:] ** 2, axis=1)
    np.testing.assert_allclose(rest, dim - full, rtol=1e-14)


def test_a_remainder_that_came_out_zero_still_has_its_norm():
    rows = np.zeros((2, 3), np.float32)
    rows[0] = 2, 0, 0
    module._rescale(rows)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.sqrt(3), rtol=1e-6)


def test_generations_and_ensembles_have_signs_of_their_own():
    bound = Hadamard().bind(256, 8, np.dtype(np.float64), ENTROPY, {})
    first = rows_of(bound, 0, np.arange(128), np.float64)
    for generation, start in [(1, 0), (0, 128)]:
        other = rows_of(bound, generation, np.arange(start, start + 128), np.float64)
        overlap = np.abs(first @ other.T) / 256
        assert 0.02 < overlap.mean() < 0.15  # of independent rows: sqrt(2 / (256 pi)) = 0.05
        assert overlap.max() < 0.9


def test_no_row_of_an_ensemble_is_special():
    """Without the random base, row 0 would be c itself in every generation."""
    bound = Hadamard().bind(64, 8, np.dtype(np.float64), ENTROPY, {})
    bases = {bound._ensemble(generation, 0).base for generation in range(200)}
    assert len(bases) > 50
