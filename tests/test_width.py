"""Sigma under noise: its fit to the bend against least squares by NumPy, and runs."""

import math

import numpy as np
import pytest

from bgs_opt import BGS, Options, automatic, width
from bgs_opt.automatic_state import WIDEST, Values

SIGMA = 0.5


def rule(noise, dim=40):
    """The rule's state under noise of a variance."""
    return automatic.init(
        dim, SIGMA, budget=4000, noise=noise, dtype=float, exact=True, floor=1e-12
    )


def told(state, sigmas, bends, pairs=8):
    """Tell the state one generation at each sigma, whose values lie ``bend`` over the center's.

    Both ends of a pair are equal, so that nothing but the bend is seen. Sigma is set each time.
    """
    for sigma, bend in zip(sigmas, bends, strict=True):
        state.sigma = sigma
        noise = state.noise
        ends = np.full(pairs, 5.0 + bend)
        width.adapt_width(state, Values(ends, ends.copy(), np.array([5.0])))
        assert state.noise == noise
    return state


def fitted(sigmas, bends, variance, at):
    """a, q and the standard deviation of q by weighted least squares with a row for the prior."""
    s = (np.asarray(sigmas) / SIGMA) ** 2
    weight = np.sqrt(0.9 ** np.arange(len(s))[::-1] / variance)
    rows = np.stack([s, s * s], axis=1) * weight[:, None]
    alone = np.linalg.lstsq(rows[:, :1], bends * weight, rcond=None)[0][0]
    clear = alone * np.linalg.norm(rows[:, 0])
    target = (at / SIGMA) ** 2
    rows = np.vstack([rows, [0.0, target / alone]])
    a, q = np.linalg.lstsq(rows, np.append(bends * weight, 0.0), rcond=None)[0]
    return a, q, math.sqrt(np.linalg.inv(rows.T @ rows)[1, 1]), clear


def test_what_is_bent_agrees_with_weighted_least_squares_by_numpy():
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(400):
        noise, share = 10.0 ** rng.uniform(-3, 1), rng.choice([0.0, -0.4, 0.2, 0.6])
        sigmas = SIGMA * 1.25 ** np.sort(rng.integers(0, 5, size=12))
        s = (sigmas / SIGMA) ** 2
        variance = noise * (0.5 / 8 + 1.0)
        bends = s + share * s * s / s[-1] + rng.normal(0, math.sqrt(variance), 12)
        at = 1.25 * sigmas[-1]
        a, q, deviation, clear = fitted(sigmas, bends, variance, at)
        part = abs(q) * (at / SIGMA) ** 2 / a
        expected = None
        if clear > 3 and a > 0:
            expected = True if part > 0.1 and abs(q) > 3 * deviation else None
            expected = False if expected is None and part <= 0.25 else expected
        state = told(rule(noise), sigmas, bends)
        seen.append(width.bent(state, at))
        assert seen[-1] is expected
    assert all(seen.count(kind) > 40 for kind in (None, True, False))


FORGED = [
    [np.nan] * 5, [np.inf] * 5, [0.0] * 5, [1e308] * 5, [1.0, 1.0, 1.0, -5.0, 1.0],
    [1e-300, 0.0, 0.0, 1e300, 1e300],
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_sums_of_any_kind_say_nothing_and_raise_nothing(forged):
    state = rule(1.0)
    state.bends = np.array(forged, float)
    assert width.bent(state, SIGMA) is None


def test_a_bend_that_overflows_the_sums_is_forgotten():
    state = told(rule(1.0), [SIGMA] * 3, [4.0] * 3)
    state.noise = 1e-290
    width.adapt_width(state, Values(np.full(8, 1e100), np.full(8, 1e100), np.zeros(1)))
    assert not state.bends.any()


def noisy_run(fun, dim=20, seed=0, ratio=200, deviation=None, **how):
    """A whole run under additive noise; sigma of every generation, and the result."""
    rng = np.random.default_rng([seed, 17])
    start = rng.uniform(-1.5, 1.5, dim)
    start[3] = 0.0
    deviation = fun(start) if deviation is None else deviation
    how = {"options": Options(noisy=True)} | how
    opt = BGS(start, SIGMA, optimizer="auto", budget=ratio * dim, seed=seed, **how)
    sigmas = []
    while not opt.stop():
        candidates = opt.ask()
        values = np.array([fun(x) for x in candidates])
        opt.tell(candidates, values + deviation * rng.standard_normal(len(values)))
        sigmas.append(opt.sigma)
    return np.array(sigmas), fun(opt.recommendation) / fun(start)


def sphere(x):
    return float(x @ x)


def plateau(x):
    """A basin in a plain: nothing can be learned from far away."""
    return min(float(x @ x), 1.5 * len(x))


def test_sigma_grows_on_a_quadratic_but_not_without_end():
    sigmas, _ = noisy_run(sphere)
    assert sigmas.max() > 5 * SIGMA
    assert sigmas.max() <= WIDEST * SIGMA * (1 + 1e-9)


def test_a_wide_sigma_finds_better_points_of_a_noisy_quadratic(monkeypatch):
    def losses():
        return [noisy_run(sphere, seed=seed)[1] for seed in range(6)]

    wide = losses()
    monkeypatch.setattr(width, "WIDEST", 1.0)
    assert np.mean(np.log(wide)) < np.mean(np.log(losses())) - math.log(3)


@pytest.mark.parametrize("seed", range(4))
def test_sigma_stays_inside_a_basin(seed):
    """Beyond sigma = 1.22 every point of a generation lies in the plain."""
    sigmas, loss = noisy_run(plateau, dim=60, seed=seed, deviation=3.0)
    assert sigmas[len(sigmas) // 2 :].mean() < 1.22
    assert loss < 0.1


@pytest.mark.parametrize(
    ("half", "scale", "largest"),
    [(50.0, None, 5.0), (5.0, None, 5 / 3), (5.0, 2.0, 5 / 6), (1.5, None, SIGMA)],
)
def test_in_a_box_sigma_grows_to_a_third_of_the_half_width(half, scale, largest):
    how = {"bounds": (-half, half), "options": Options(noisy=True, scale=scale)}
    sigmas, _ = noisy_run(sphere, **how)
    assert sigmas.max() <= largest * (1 + 1e-9)
    assert sigmas.max() > 0.7 * largest


def test_sigma_stays_at_the_largest_that_the_options_allow():
    largest = 1.6 * SIGMA
    sigmas, _ = noisy_run(sphere, options=Options(noisy=True, max_sigma=largest))
    assert largest / width.RISE < sigmas.max() <= largest


@pytest.mark.parametrize(
    ("half", "scale", "largest"), [(1e300, 1e-30, 1000 * SIGMA), (0.0, None, SIGMA)]
)
def test_the_ceiling_of_a_vast_or_empty_box_is_a_multiple_of_the_start(half, scale, largest):
    opt = BGS(np.zeros(4), SIGMA, optimizer="auto", bounds=(-half, half),
              options=Options(noisy=False, scale=scale, start_evaluations=0))  # fmt: skip
    assert opt._state.automatic.ceiling == pytest.approx(largest)


def test_a_coordinate_that_is_fixed_is_no_narrow_side_of_a_box():
    low = np.full(20, -50.0)
    low[3] = 0.0
    high = -low
    sigmas, _ = noisy_run(sphere, bounds=(low, high))
    assert sigmas.max() > 3 * SIGMA


def test_a_point_told_from_elsewhere_makes_the_fit_begin_anew():
    state = told(rule(0.01), [SIGMA] * 5, [4.0] * 5)
    assert width.bent(state, SIGMA) is False
    automatic.restart(state)
    assert width.bent(state, SIGMA) is None
