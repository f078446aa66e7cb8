"""Schedules by their formulas; cumulative adaptation under random selection and at its ends."""

import math

import array_api_strict
import numpy as np
import pytest

from bgs_opt.directions import QR, Gaussian
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.gradient import accumulate
from bgs_opt.hadamard import Hadamard
from bgs_opt.sigma import (
    CumulativeAdaptation,
    ExponentialDecay,
    InverseDecay,
    LinearDecay,
    clamp,
)
from tests.conformance import ENTROPY, NAMESPACES, rows_of


def test_exponential_decay_is_a_power_down_to_its_floor():
    decay = ExponentialDecay(0.9, floor=0.2)
    factors = [decay(g) for g in range(100)]
    assert factors[0] == 1.0
    expected = [math.exp(g * math.log(0.9)) for g in range(15)]
    np.testing.assert_allclose(factors[:15], expected, rtol=1e-12)
    assert min(factors) == factors[-1] == 0.2
    assert decay(10**9) == 0.2


def test_linear_decay_is_a_straight_line_and_then_flat():
    decay = LinearDecay(8, final=0.5)
    assert [decay(g) for g in range(11)] == [1 - g / 16 for g in range(9)] + [0.5, 0.5]
    assert decay(10**15) == 0.5


def test_inverse_decay_is_a_hyperbola_down_to_its_floor():
    decay = InverseDecay(half=4, floor=0.2)
    assert [decay(g) for g in (0, 4, 8, 12)] == [1, 1 / 2, 1 / 3, 1 / 4]
    assert decay(16) == decay(10**9) == 0.2


@pytest.mark.parametrize(
    ("make", "name", "good"),
    [
        (InverseDecay, "half", 0.5),
        (lambda v: InverseDecay(3, v), "floor", 1.0),
        (ExponentialDecay, "rate", 1.0),
        (lambda v: ExponentialDecay(0.5, v), "floor", 1.0),
        (lambda v: LinearDecay(3, v), "final", 1.0),
        (CumulativeAdaptation, "damping", 1e9),
    ],
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", None, True, 1j])
def test_a_factor_outside_of_its_range_is_refused_by_name(make, name, good, value):
    make(good)
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"^{name}: expected"):
        make(value)


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True])
def test_linear_decay_takes_a_positive_whole_number_of_generations(value):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^generations: expected"):
        LinearDecay(value)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (0.5, (0.5, False)), (0.1, (0.1, False)), (2.0, (2.0, False)), (0.0, (0.1, True)),
        (2.1, (2.0, True)), (math.inf, (2.0, True)), (-math.inf, (0.1, True)),
        (math.nan, (0.1, True)),
    ],
)  # fmt: skip
def test_clamping_says_whether_it_moved(sigma, expected):
    assert clamp(sigma, 0.1, 2.0) == expected


# ---- cumulative adaptation


def run(rule, sampler, dim, generations, weigh, num_directions=8, dtype=np.float64):
    """Sigma and squared path norm over d, by generation, when ``weigh`` gives the weights."""
    bound = sampler.bind(dim, num_directions, np.dtype(dtype), ENTROPY, {})
    path, sigma, sigmas, ratios = rule.init(np.zeros(dim, dtype)), 1.0, [], []
    indices = np.arange(num_directions)
    for generation in range(generations):
        weights = weigh(rows_of(bound, generation, indices, dtype))
        gradient = accumulate(
            bound.blocks(generation, indices, weights.astype(dtype)), np.zeros(dim, dtype)
        )
        sigma, path = rule.update(sigma, path, gradient, weights)
        sigmas.append(sigma)
        ratios.append(float(path @ path) / dim)
    return np.array(sigmas), np.array(ratios)


@pytest.mark.parametrize("sampler", [QR(), Hadamard(), Gaussian()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dim", [8, 64])
def test_under_random_selection_the_path_keeps_the_norm_root_d(sampler, dim):
    generator = np.random.default_rng(5)
    rule = CumulativeAdaptation()
    _, ratios = run(rule, sampler, dim, 800, lambda rows: generator.normal(size=len(rows)))
    # successive paths share their past over 1/c <= 12 generations: a twelfth of them count
    settled = ratios[100:]
    error = settled.std() / math.sqrt(len(settled) / 12)
    assert error < 0.1
    assert abs(settled.mean() - 1) < 4 * error


@pytest.mark.parametrize("dim", [8, 64])
def test_under_random_selection_sigma_neither_grows_nor_shrinks_in_trend(dim):
    generator = np.random.default_rng(6)
    rule = CumulativeAdaptation()
    sigmas, _ = run(rule, QR(), dim, 800, lambda rows: generator.normal(size=len(rows)))
    changes = np.diff(np.log(sigmas[100:]))
    error = changes.std() / math.sqrt(len(changes) / 12)
    assert abs(changes.mean()) < 4 * error


def test_sigma_grows_where_steps_agree_and_shrinks_where_they_undo_each_other():
    slope = np.random.default_rng(0).normal(size=16)
    rule = CumulativeAdaptation()
    uphill, _ = run(rule, QR(), 16, 60, lambda rows: rows @ slope)
    assert (np.diff(uphill[20:]) > 0).all()
    signs = iter([1.0, -1.0] * 30)
    back_and_forth, _ = run(rule, QR(), 16, 60, lambda rows: next(signs) * (rows @ slope))
    assert back_and_forth[-1] < 0.2 * back_and_forth[20]


def test_an_update_is_that_of_the_formulas():
    """Hansen & Ostermeier 2001, eq. 16-17, for two weights and three dimensions by hand."""
    path, gradient = np.array([1.0, 0.0, -1.0]), np.array([2.0, 1.0, 0.0])
    weights = np.array([0.5, -1.5])
    effective = 2.0**2 / 2.5
    c = (effective + 2) / (3 + effective + 5)
    expected = (1 - c) * path + math.sqrt(c * (2 - c)) * gradient / math.sqrt(2.5)
    growth = c / (1 + c) / 2 * (float(expected @ expected) / 3 - 1) / 4
    before = gradient.copy()
    sigma, moved = CumulativeAdaptation(damping=4.0).update(0.3, path.copy(), gradient, weights)
    np.testing.assert_allclose(moved, expected, rtol=1e-14)
    assert sigma == pytest.approx(0.3 * math.exp(growth), rel=1e-14)
    np.testing.assert_array_equal(gradient, before)


def test_the_scale_of_the_weights_does_not_matter():
    generator = np.random.default_rng(7)
    weights, slope = generator.normal(size=4), generator.normal(size=5)
    results = [
        CumulativeAdaptation().update(1.0, np.ones(5), slope * factor, weights * factor)
        for factor in (1.0, 2.0**-40, 2.0**40)
    ]
    for sigma, path in results[1:]:
        assert sigma == pytest.approx(results[0][0], rel=1e-13)
        np.testing.assert_allclose(path, results[0][1], rtol=1e-13)


def test_zero_weights_change_nothing():
    path = np.arange(4.0)
    sigma, after = CumulativeAdaptation().update(0.7, path, np.zeros(4), np.zeros(3))
    assert sigma == 0.7
    np.testing.assert_array_equal(after, np.arange(4.0))


def test_one_update_changes_sigma_by_a_factor_of_e_at_most():
    for gradient in (np.zeros(3), np.full(3, 1e6)):
        sigma, _ = CumulativeAdaptation(1e-6).update(1.0, np.zeros(3), gradient, np.ones(1))
        assert math.exp(-1) * (1 - 1e-12) <= sigma <= math.e * (1 + 1e-12)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_other_namespaces_give_the_numbers_of_numpy(namespace):
    xp, rule = NAMESPACES[namespace], CumulativeAdaptation()
    path, gradient, weights = np.ones(6), np.arange(6.0), np.array([1.0, -2.0])
    sigma, moved = rule.update(1.0, path.copy(), gradient, weights)
    arrays = [xp.asarray(a.copy()) for a in (path, gradient, weights)]
    other, other_path = rule.update(1.0, *arrays)
    assert other == pytest.approx(sigma, rel=1e-13)
    np.testing.assert_allclose(np.asarray(other_path), moved, rtol=1e-13)
    assert not np.asarray(rule.init(array_api_strict.ones(3))).any()
