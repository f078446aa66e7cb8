"""The ordered sum and the norm, against plain Python arithmetic."""

import math

import numpy as np
import pytest

from bgs_opt.directions import Gaussian
from bgs_opt.gradient import accumulate, norm
from bgs_opt.hadamard import Hadamard
from tests.conformance import ENTROPY, NAMESPACES, rows_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sampler", [Gaussian(), Hadamard()], ids=["gaussian", "hadamard"])
@pytest.mark.parametrize("dim", [3, 1000, 70_000])
def test_the_sum_has_the_bits_of_one_multiplication_and_one_addition_a_direction(
    sampler, dim, dtype
):
    bound = sampler.bind(dim, 6, np.dtype(dtype), ENTROPY, {})
    indices, weights = np.arange(6), np.random.default_rng(0).normal(size=6).astype(dtype)
    out = np.full(dim, dtype(0.125))
    assert accumulate(bound.blocks(0, indices, weights), out) is out
    pieces = rows_of(bound, 0, indices, dtype, weights)
    columns = np.unique(np.linspace(0, dim - 1, 200).astype(int))
    for column in columns.tolist():
        total = dtype(0.125)
        for piece in pieces[:, column]:
            total = dtype(total + piece)
        assert out[column] == total


def test_the_order_is_that_of_the_rows():
    blocks = [
        (slice(i, i + 1), slice(0, 1), np.array([[v]])) for i, v in enumerate([1e16, 1, -1e16])
    ]
    assert accumulate(blocks, np.zeros(1))[0] == 0.0  # (1e16 + 1) rounds to 1e16
    assert accumulate([blocks[0], blocks[2], blocks[1]], np.zeros(1))[0] == 1.0


def test_pieces_go_to_their_columns_only():
    block = np.arange(6.0).reshape(2, 3)
    out = accumulate([(slice(0, 2), slice(2, 5), block)], np.ones(7))
    np.testing.assert_array_equal(out, [1, 1, 1 + 0 + 3, 1 + 1 + 4, 1 + 2 + 5, 1, 1])


def test_no_pieces_leave_the_sum_alone():
    np.testing.assert_array_equal(accumulate([], np.arange(3.0)), [0.0, 1.0, 2.0])


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_other_namespaces_sum_to_the_same_bits(namespace):
    xp = NAMESPACES[namespace]
    bound = Gaussian().bind(1000, 5, np.dtype(np.float64), ENTROPY, {})
    weights = np.linspace(-1, 1, 5)
    expected = accumulate(bound.blocks(0, np.arange(5), weights), np.zeros(1000))
    blocks = (
        (rows, cols, [xp.asarray(row.copy()) for row in block])
        for rows, cols, block in bound.blocks(0, np.arange(5), weights)
    )
    out = accumulate(blocks, xp.zeros(1000, dtype=xp.float64))
    np.testing.assert_array_equal(np.asarray(out), expected)


# ---- the norm


@pytest.mark.parametrize("size", [1.0, 1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("dim", [1, 2, 100, (1 << 15) - 1, 1 << 15, 100_000])
def test_the_norm_is_that_of_hypot_at_any_magnitude(dim, size):
    vector = np.random.default_rng(dim).normal(size=dim) * size
    before = vector.copy()
    assert norm(vector) == pytest.approx(math.hypot(*vector.tolist()), rel=1e-12)
    np.testing.assert_array_equal(vector, before)


def test_the_norm_of_float32_does_not_overflow():
    vector = np.full(40_000, 1e30, np.float32)
    assert norm(vector) == pytest.approx(2e32, rel=1e-5)


@pytest.mark.parametrize(
    ("vector", "expected"),
    [([0.0, -0.0], 0.0), ([5e-324], 5e-324), ([-3.0, 4.0], 5.0), ([1.0, math.inf], math.inf)],
)
def test_the_norm_at_the_ends_of_the_range(vector, expected):
    assert norm(np.array(vector)) == expected


@pytest.mark.parametrize("place", [0, 1, 40_000])
def test_the_norm_with_a_nan_is_nan(place):
    vector = np.ones(50_000)
    vector[place] = math.nan
    assert math.isnan(norm(vector))
