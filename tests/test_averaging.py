"""The moving average against the weights it stands for."""

import numpy as np
import pytest

from bgs_opt.averaging import moving_average
from tests.conformance import NAMESPACES


def weights_of(decay: float, count: int) -> np.ndarray:
    """Weight of each of ``count`` centers, and in front that of the start, from the formula."""
    factors = [min(decay, (1 + t) / (10 + t)) for t in range(count)]
    own = [1.0, *(1 - f for f in factors)]
    return np.array([own[i] * np.prod(factors[i:]) for i in range(count + 1)])


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_is_the_weighted_sum_of_all_centers(decay, dtype):
    centers = np.random.default_rng(0).normal(size=(41, 5)).astype(dtype)
    average = centers[0].copy()
    for step, center in enumerate(centers[1:]):
        assert moving_average(average, center, decay, step) is average
    weights = weights_of(decay, 40)
    assert weights.sum() == pytest.approx(1)
    rtol = 1e-4 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(average, weights @ centers, rtol=rtol, atol=rtol / 100)
    assert average.dtype == dtype


def test_early_centers_are_forgotten_soon():
    assert weights_of(0.999, 20)[0] < 1e-7
    assert weights_of(0.999, 20)[1] < 1e-6


def test_without_decay_the_average_is_the_last_center():
    average = moving_average(np.zeros(3), np.arange(3.0), 0.0, 0)
    np.testing.assert_array_equal(average, np.arange(3.0))


def test_the_average_of_one_point_is_that_point():
    average = np.full(4, 0.1)
    for step in range(50):
        moving_average(average, np.full(4, 0.1), 0.97, step)
    np.testing.assert_allclose(average, 0.1, rtol=1e-14)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_other_namespaces_give_the_bits_of_numpy(namespace):
    xp = NAMESPACES[namespace]
    ours, center = np.arange(5.0), np.full(5, 0.3)
    other = xp.asarray(ours.copy())
    for step in range(10):
        moving_average(ours, center, 0.9, step)
        moving_average(other, xp.asarray(center), 0.9, step)
    np.testing.assert_array_equal(np.asarray(other), ours)
