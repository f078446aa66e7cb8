"""Selection and weights against loops written from the formulas."""

import itertools
import math

import array_api_strict
import numpy as np
import pytest
from scipy import stats

from bgs_opt.selection import (
    REWARD_SCALES,
    acceptance,
    centred_ranks,
    direction_weights,
    normalise,
    selection_key,
    spread,
)
from tests.conformance import NAMESPACES
from tests.helpers import deviation, slow_weights


def rewards(n, seed, kind="normal"):
    generator = np.random.default_rng([n, seed])
    if kind == "ties":
        return generator.integers(0, 3, (2, n)).astype(float)
    return generator.normal(size=(2, n))


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
@pytest.mark.parametrize("mean_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_weights_are_those_of_a_slow_reference(n, mean_weight, reward_scale, kind):
    for seed in range(5):
        plus, minus = rewards(n, seed, kind)
        accepted = np.random.default_rng(seed).random(n) < 0.7
        for top_k, mask in itertools.product({1, -(-n // 2), n, n + 3}, (None, accepted)):
            options = {
                "top_k": top_k, "mean_weight": mean_weight,
                "reward_scale": reward_scale, "accepted": mask,
            }  # fmt: skip
            np.testing.assert_allclose(
                direction_weights(plus, minus, **options),
                slow_weights(plus.tolist(), minus.tolist(), **options),
                rtol=1e-12, atol=1e-15,
            )  # fmt: skip


def test_a_sum_over_kept_pairs_by_hand():
    """Two kept of three: differences 4 and -2 of rewards 5, 1, 2, 4 (variance 2.5)."""
    weights = direction_weights(np.array([5.0, 3, 2]), np.array([1.0, 3, 4]), top_k=2)
    np.testing.assert_allclose(weights, np.array([4, 0, -2]) / (2 * math.sqrt(2.5)))


def test_ars_keeps_what_difference_does_not():
    plus, minus = np.array([9.0, 5.0]), np.array([8.0, 1.0])
    assert np.flatnonzero(direction_weights(plus, minus, top_k=1)).tolist() == [1]
    assert np.flatnonzero(direction_weights(plus, minus, top_k=1, mean_weight=1.0)).tolist() == [0]


@pytest.mark.parametrize("mean_weight", [0.0, 1.0])
def test_of_tied_pairs_the_lower_ids_are_kept(mean_weight):
    plus, minus = np.array([0.0, 2, 2, 2, 2]), np.array([0.0, 1, 1, 1, 1])
    weights = direction_weights(plus, minus, top_k=2, mean_weight=mean_weight)
    assert np.flatnonzero(weights).tolist() == [1, 2]


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, -7e300, 5e-324])
def test_equal_rewards_give_weights_of_exactly_zero(value, reward_scale):
    values = np.full(7, value)
    weights = direction_weights(values, values, top_k=7, reward_scale=reward_scale)
    np.testing.assert_array_equal(weights, np.zeros(7))


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
def test_swapping_the_ends_of_all_pairs_turns_the_weights_around(reward_scale):
    plus, minus = rewards(12, 0)
    weights = direction_weights(plus, minus, top_k=5, reward_scale=reward_scale)
    swapped = direction_weights(minus, plus, top_k=5, reward_scale=reward_scale)
    np.testing.assert_allclose(swapped, -weights, rtol=1e-13)


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
@pytest.mark.parametrize("mean_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("exponent", [-1000, -500, 500, 1000])
def test_rewards_of_any_magnitude_give_the_same_bits(exponent, mean_weight, reward_scale):
    plus, minus = rewards(12, 1)
    options = {"top_k": 5, "mean_weight": mean_weight, "reward_scale": reward_scale}
    scaled = np.ldexp(plus, exponent), np.ldexp(minus, exponent)
    np.testing.assert_array_equal(
        direction_weights(*scaled, **options), direction_weights(plus, minus, **options)
    )


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
@pytest.mark.parametrize("mean_weight", [0.0, 1.0])
def test_rewards_at_the_ends_of_the_range_give_finite_weights(mean_weight, reward_scale):
    plus = np.array([1.7e308, -1.7e308, 1e-300, 5e-324, 0.0])
    minus = np.array([-1.7e308, -1.7e308, -1e-300, 0.0, 1.7e308])
    weights = direction_weights(
        plus, minus, top_k=5, mean_weight=mean_weight, reward_scale=reward_scale
    )
    assert np.isfinite(weights).all()
    assert np.sign(weights)[[0, 1, 4]].tolist() == [1, 0, -1]


def test_no_accepted_direction_gives_no_step():
    weights = direction_weights(*rewards(4, 0), top_k=4, accepted=np.zeros(4, bool))
    np.testing.assert_array_equal(weights, np.zeros(4))


@pytest.mark.parametrize("reward_scale", REWARD_SCALES)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_other_namespaces_give_the_weights_of_numpy(namespace, reward_scale):
    xp = NAMESPACES[namespace]
    plus, minus = rewards(16, 3, "ties")
    accepted = np.arange(16) % 5 > 0
    options = {"top_k": 6, "mean_weight": 0.5, "reward_scale": reward_scale}
    expected = direction_weights(plus, minus, accepted=accepted, **options)
    other = direction_weights(
        xp.asarray(plus), xp.asarray(minus), accepted=xp.asarray(accepted), **options
    )
    np.testing.assert_allclose(np.asarray(other), expected, rtol=1e-13, atol=1e-16)


def test_the_inputs_are_left_alone():
    plus, minus = rewards(9, 0)
    plus.flags.writeable = minus.flags.writeable = False
    for reward_scale in REWARD_SCALES:
        direction_weights(plus, minus, top_k=3, reward_scale=reward_scale)
    acceptance(plus, minus, 0.0, 1.0)


# ---- the pieces


@pytest.mark.parametrize("kind", ["normal", "ties"])
@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_ranks_are_those_of_scipy(n, kind):
    values = rewards(n, 0, kind)[0]
    expected = (stats.rankdata(values) - 1) / (n - 1) - 0.5
    np.testing.assert_allclose(centred_ranks(values), expected, atol=1e-15)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_ranks_without_an_order_are_zero(values):
    np.testing.assert_array_equal(centred_ranks(np.array(values)), np.zeros(len(values)))


def test_ranks_do_not_change_under_a_monotone_map():
    values = rewards(50, 0)[0]
    np.testing.assert_array_equal(centred_ranks(np.exp(30 * values)), centred_ranks(values))


@pytest.mark.parametrize("size", [1.0, 1e-300, 1e300, 4e307])
def test_the_spread_is_the_standard_deviation_at_any_magnitude(size):
    values = rewards(30, 0)[0]
    assert spread(values * size) == pytest.approx(deviation(values.tolist()) * size, rel=1e-12)


def test_the_spread_of_equal_values_is_zero_and_of_almost_equal_ones_is_not():
    assert spread(np.full(9, 0.1)) == 0.0
    assert spread(np.array([0.1] * 8 + [np.nextafter(0.1, 1)])) > 0.0


def test_normalised_values_reach_one_and_zeros_stay_zeros():
    assert np.abs(normalise(rewards(9, 0)[0] * 1e300)).max() == 1.0
    np.testing.assert_array_equal(normalise(np.zeros(3)), np.zeros(3))
    strict = normalise(array_api_strict.asarray([1.0, -4.0]))
    np.testing.assert_array_equal(np.asarray(strict), [0.25, -1.0])


def test_the_key_with_mean_weight_one_is_the_larger_end():
    plus, minus = rewards(50, 0)
    np.testing.assert_allclose(
        selection_key(plus, minus, 1.0), np.maximum(plus, minus), rtol=1e-14, atol=1e-15
    )
    np.testing.assert_array_equal(selection_key(plus, minus), np.abs(plus - minus) / 2)


@pytest.mark.parametrize("tolerance", [-1.0, 0.0, 0.5, 2.0])
def test_a_direction_is_accepted_where_its_better_end_is_near_the_baseline(tolerance):
    plus, minus = rewards(40, 0)
    baseline = 0.4
    bar = baseline - tolerance * deviation([*plus.tolist(), *minus.tolist()])
    expected = [max(a, b) >= bar for a, b in zip(plus, minus, strict=True)]
    assert acceptance(plus, minus, baseline, tolerance).tolist() == expected
    assert 0 < sum(expected) <= 40
