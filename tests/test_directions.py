"""Samplers of independent, QR and factorised rows."""

import math

import numpy as np
import pytest
from scipy import stats

from bgs_opt.directions import (
    QR,
    Factorised,
    Gaussian,
    GaussianTable,
    Rademacher,
    normal_quantiles,
)
from bgs_opt.hadamard import Hadamard
from bgs_opt.protocols import BLOCK_NUMBERS
from tests.conformance import ENTROPY, SamplerConformance, rows_of

F64 = np.dtype(np.float64)


def two_blocks(dim: int) -> dict[str, tuple[int, ...]]:
    """A matrix, nearly square, of about two thirds of the numbers, and the rest as a vector."""
    side = math.isqrt(2 * dim // 3)
    matrix = {"w": (side, side + 1)} if side > 1 and side * (side + 1) < dim else {}
    return {**matrix, "b": (dim - sum(math.prod(s) for s in matrix.values()),)}


class TestGaussian(SamplerConformance):
    sampler = Gaussian()
    exact_norm = False


class TestGaussianTable(SamplerConformance):
    sampler = GaussianTable()
    exact_norm = False


class TestRademacher(SamplerConformance):
    sampler = Rademacher()


class TestQR(SamplerConformance):
    sampler = QR()


class TestFactorised(SamplerConformance):
    sampler = Factorised()
    exact_norm = False
    layout = staticmethod(two_blocks)


def sample(sampler, dim, count, dtype=np.float64, layout=None, generation=0):
    bound = sampler.bind(dim, count, np.dtype(dtype), ENTROPY, layout or {})
    return rows_of(bound, generation, np.arange(count), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_numbers_pass_a_kolmogorov_smirnov_test(dtype):
    assert stats.kstest(sample(Gaussian(), 1000, 50, dtype).ravel(), "norm").pvalue > 0.01


def test_a_gaussian_row_is_what_numpy_draws_at_its_place_of_the_philox_stream():
    for generation, index in [(0, 0), (5, 9), (1 << 40, 1 << 33)]:
        philox = np.random.Philox(key=ENTROPY, counter=[0, 1, index, generation])
        bound = Gaussian().bind(100_003, 4, F64, ENTROPY, {})
        np.testing.assert_array_equal(
            rows_of(bound, generation, [index], np.float64)[0],
            np.random.Generator(philox).standard_normal(100_003),
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_table_has_mean_zero_variance_one_and_the_shape_of_a_normal_number(dtype):
    table = normal_quantiles(np.dtype(dtype).str).astype(np.float64)
    eps = np.finfo(dtype).eps
    assert table.shape == (1 << 16,)
    assert abs(math.fsum(table)) == 0
    assert abs(math.fsum(table**2) / table.size - 1) < 2 * eps
    assert math.fsum(table**4) / table.size == pytest.approx(2.9992, abs=5e-5)
    assert table.max() == pytest.approx(4.325, abs=5e-4)
    expected = stats.norm.ppf((np.arange(1 << 16) + 0.5) / (1 << 16))
    np.testing.assert_allclose(table, expected, rtol=2e-4)


def test_table_numbers_pass_a_kolmogorov_smirnov_test():
    assert stats.kstest(sample(GaussianTable(), 1000, 50).ravel(), "norm").pvalue > 0.01


def test_the_table_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        normal_quantiles(F64.str)[0] = 0


def test_rademacher_numbers_are_signs_and_half_of_them_negative():
    rows = sample(Rademacher(), 1001, 64)
    assert set(np.unique(rows)) == {-1.0, 1.0}
    assert stats.binomtest(int((rows < 0).sum()), rows.size).pvalue > 0.01


@pytest.mark.parametrize(
    ("dim", "count"), [(2, 2), (5, 3), (64, 64), (65, 65), (100, 100), (257, 130), (4096, 12)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_qr_rows_are_orthogonal_with_norm_root_d(dim, count, dtype):
    rows = sample(QR(), dim, count, dtype).astype(np.float64)
    np.testing.assert_allclose(
        rows @ rows.T, dim * np.eye(count), atol=dim * 8 * np.finfo(dtype).eps
    )


def test_more_qr_rows_than_dimensions_come_in_orthogonal_blocks():
    rows = rows_of(QR().bind(5, 12, F64, ENTROPY, {}), 0, np.arange(12), np.float64)
    for block in (rows[:5], rows[5:10]):
        np.testing.assert_allclose(block @ block.T, 5 * np.eye(5), atol=1e-13)
    assert np.abs(rows[:5] @ rows[5:10].T).max() > 0.1


def test_qr_is_uniform_over_the_rotations_of_the_plane():
    bound = QR().bind(2, 2, F64, ENTROPY, {})
    rows = np.stack([rows_of(bound, g, [0, 1], np.float64) for g in range(800)])
    angles = np.arctan2(rows[:, 0, 1], rows[:, 0, 0])
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01
    handed = np.linalg.det(rows) > 0  # both orientations: all of O(2), not only SO(2)
    assert stats.binomtest(int(handed.sum()), len(handed)).pvalue > 0.01


# ---- factorised rows

CONV = {"conv": (4, 3, 5), "bias": (4,), "row": (1, 6), "column": (7, 1), "w": (3, 8)}
CONV_DIM = sum(math.prod(shape) for shape in CONV.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_factorised_row_is_the_outer_product_of_its_factors(dtype):
    bound = Factorised().bind(CONV_DIM, 4, np.dtype(dtype), ENTROPY, CONV)
    row = rows_of(bound, 2, [5], dtype)[0]
    factors = bound.factors(2, 5, np.dtype(dtype))
    assert set(factors) == {"conv", "w"}
    for name, start in (("conv", 0), ("w", CONV_DIM - 24)):
        u, v = factors[name]
        size = math.prod(CONV[name])
        assert (len(u), len(v)) == (CONV[name][0], size // CONV[name][0])
        part = row[start : start + size].reshape(len(u), len(v))
        for i, j in np.ndindex(part.shape):
            assert part[i, j] == u[i] * v[j]
        assert np.linalg.matrix_rank(part.astype(np.float64), rtol=1e-5) == 1


def test_the_blocks_of_a_factorised_row_share_no_numbers():
    layout = {"a": (6, 6), "b": (6, 6), "c": (36,)}
    row = sample(Factorised(), 108, 1, layout=layout)[0]
    assert len(np.unique(np.abs(row))) == 108


def test_a_wide_matrix_comes_in_pieces_of_bounded_size():
    layout = {"w": (700, 300), "b": (70_000,)}
    bound = Factorised().bind(280_000, 2, F64, ENTROPY, layout)
    sizes = [b.size for _, _, b in bound.blocks(0, np.arange(2), np.ones(2))]
    assert max(sizes) <= BLOCK_NUMBERS
    assert len(sizes) > 4


# ---- all of them

SAMPLERS = [Gaussian(), GaussianTable(), Rademacher(), QR(), Factorised(), Hadamard()]


def test_samplers_of_one_run_share_no_numbers():
    """The same entropy at the same place: each sampler has a stream of its own."""
    rows = [sample(s, 64, 2, layout={"w": (8, 8)})[0] for s in SAMPLERS]
    correlations = np.abs(np.corrcoef(rows) - np.eye(len(rows)))
    assert correlations.max() < 0.5  # 64 numbers: 4 standard deviations


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_the_global_random_state_is_neither_read_nor_written(sampler):
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    first = sample(sampler, 40, 3, layout={"w": (5, 8)})
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(sample(sampler, 40, 3, layout={"w": (5, 8)}), first)


# not Gaussian and Factorised: NumPy draws float32 normal numbers by another ziggurat
@pytest.mark.parametrize(
    "sampler", [GaussianTable(), Rademacher(), QR(), Hadamard()], ids=lambda s: type(s).__name__
)
def test_float32_rows_are_the_float64_rows_rounded(sampler):
    wide, narrow = sample(sampler, 200, 4), sample(sampler, 200, 4, np.float32)
    np.testing.assert_allclose(narrow, wide, rtol=1e-5, atol=1e-6)
