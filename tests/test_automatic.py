"""The automatic rule by itself, told values that a closed form gives."""

import math

import numpy as np
import pytest

from bgs_opt import automatic

DIM, SIGMA = 40, 0.5


def first_step(power, noise=4.0, pairs=DIM, scale=1.0):
    """Length of the first step; differences have ``power`` times the square of noise alone."""
    state = automatic.init(
        DIM, SIGMA, budget=4000, noise=noise * scale**2, dtype=float, exact=True, floor=1e-12
    )
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]
    directions *= math.sqrt(DIM)
    half = scale * math.sqrt(power * noise / 2) * np.where(np.arange(pairs) % 3, 1.0, -1.0)
    delta = automatic.update(
        state, np.zeros(DIM), 7 * scale + half, 7 * scale - half, np.empty(0),
        lambda weights: weights @ directions[:pairs], 2 * pairs,
    )  # fmt: skip
    return float(np.linalg.norm(delta))


@pytest.mark.parametrize(
    ("power", "share"), [(0.1, 0.3), (1.0, 0.3), (2.0, 0.3), (4.0, 0.5), (8.0, 0.75), (1e5, 1.0)]
)
def test_a_first_step_is_as_long_as_its_differences_stand_out_of_the_noise(power, share):
    # far from the longest step, sigma sqrt(d) / 2, with few pairs
    found = first_step(power, pairs=8)
    assert found == pytest.approx(share * SIGMA * math.sqrt(8), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_first_step_does_not_depend_on_the_unit_of_the_values(scale):
    assert first_step(4.0, pairs=8, scale=scale) == pytest.approx(first_step(4.0, pairs=8))


def test_a_first_step_without_noise_has_its_whole_length():
    state = automatic.init(DIM, SIGMA, budget=60, noise=0.0, dtype=float, exact=True, floor=1e-12)
    assert state.mode == 0  # the budget has room for nothing but steps
    pairs = automatic.plan(state).num_directions
    directions = math.sqrt(DIM) * np.eye(DIM)[:pairs]
    delta = automatic.update(
        state, np.zeros(DIM), np.full(pairs, 2.0), np.full(pairs, 1.0), np.empty(0),
        lambda weights: weights @ directions, 2 * pairs,
    )  # fmt: skip
    assert np.linalg.norm(delta) == pytest.approx(SIGMA * math.sqrt(pairs))


def test_noise_that_the_start_did_not_tell_is_taken_from_the_center():
    """Values of the center in the first generation are heard before its step."""
    pairs = 8
    directions = math.sqrt(DIM) * np.eye(DIM)[:pairs]
    lengths = []
    for spread in (0.0, 3.0):
        state = automatic.init(
            DIM, SIGMA, budget=4000, noise=None, dtype=float, exact=True, floor=1e-12
        )
        delta = automatic.update(
            state, np.zeros(DIM), np.full(pairs, 2.0), np.full(pairs, 1.0),
            np.array([1.0 - spread, 1.0 + spread]), lambda weights: weights @ directions, 18,
        )  # fmt: skip
        lengths.append(np.linalg.norm(delta))
    assert lengths == pytest.approx([SIGMA * math.sqrt(8), 0.3 * SIGMA * math.sqrt(8)])
