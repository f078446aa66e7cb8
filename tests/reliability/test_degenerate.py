"""R6: objectives that say nothing: not one bit of the center may move."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bgs_opt import BGS, SGD, ClipUp, CumulativeAdaptation, Options
from tests.helpers import play, sphere

SAMPLERS = ["qr", "hadamard", "gaussian", "rademacher"]
SCALES = ["kept", "all", "rank"]
OPTIMIZERS = ["sgd", "adam", "clipup"]
GENERATIONS = 60
LEVELS = [0.0, -3.7, 1e308, -1e308, 5e-324, 1e-300]
START = np.array([1.5, -0.25, 0.0, 7e-3, -4e5])


def flat_run(level, generations=GENERATIONS, **settings):
    """Tell the same value everywhere; after each generation everything stands and is finite."""
    opt = BGS(START, 0.1, seed=1, **settings)
    while opt.generation < generations:
        candidates = opt.ask()
        opt.tell(candidates, np.full(len(candidates), level))
        assert opt.center.tobytes() == START.tobytes()
        assert opt.average.tobytes() == START.tobytes()
        assert math.isfinite(opt.sigma)
        assert opt.sigma > 0
    assert opt.best.value == level
    for name in ("sigma", "step_norm", "kept_difference"):
        assert np.isfinite(opt.history[name]).all()
    assert opt.counts["skipped"] == 0
    return opt


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("reward_scale", SCALES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_flat_function_moves_nothing(sampler, reward_scale, optimizer):
    number = SAMPLERS.index(sampler) + SCALES.index(reward_scale) + OPTIMIZERS.index(optimizer)
    opt = flat_run(
        LEVELS[number % len(LEVELS)], sampler=sampler, optimizer=optimizer,
        num_directions=6, options=Options(reward_scale=reward_scale),
    )  # fmt: skip
    assert opt.sigma == 0.1
    assert not opt.history["step_norm"].any()
    assert not opt.history["kept_difference"].any()


SETTINGS = {
    "one direction": {"num_directions": 1},
    "one direction, adam": {"num_directions": 1, "optimizer": "adam"},
    "one kept": {"top_k": 1},
    "by maximum": {"selection": "max"},
    "maximize": {"maximize": True},
    "bounds": {"bounds": (-1e6, 1e6)},
    "baseline": {"options": Options(repeats=3, center_evaluations=2, acceptance=0.0)},
    "strict baseline": {"options": Options(acceptance=-5.0)},
    "average": {"options": Options(averaging=0.9)},
    "scale": {"options": Options(scale=[1, 2, 3, 4, 5e5])},
    "momentum": {"optimizer": SGD(0.9)},
    "no momentum": {"optimizer": ClipUp(momentum=0)},
    "adaptation": {"optimizer": "sgd", "sigma_rule": CumulativeAdaptation()},
    "start": {"options": Options(start_evaluations=4)},
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_flat_function_moves_nothing_whatever_the_settings(name, level):
    opt = flat_run(level, 8, **{"num_directions": 6, **SETTINGS[name]})
    assert opt.sigma == 0.1


@pytest.mark.parametrize("noisy", [None, False, True])
@pytest.mark.parametrize("budget", [None, 40, 1000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_flat_function_leaves_the_automatic_rule_where_it_is(sampler, budget, noisy):
    for level in LEVELS[:3]:
        flat_run(level, sampler=sampler, optimizer="auto", budget=budget,
                 options=Options(noisy=noisy))  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("reward_scale", SCALES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pairs_whose_ends_agree_move_nothing_however_the_pairs_differ(
    sampler, reward_scale, optimizer
):
    opt = BGS(START, 0.1, seed=1, sampler=sampler, optimizer=optimizer, num_directions=6,
              options=Options(reward_scale=reward_scale))  # fmt: skip
    values = np.repeat([3.0, -1e5, 0.1, 1e200, 1 / 3, -1e-9], 2)
    for _ in range(20):
        opt.tell(opt.ask(), values)
        assert opt.center.tobytes() == START.tobytes()
    assert opt.sigma == 0.1


@pytest.mark.parametrize("optimizer", ["sgd", SGD(0.9), "adam", "clipup"], ids=str)
def test_momentum_dies_out_on_a_plateau_and_nothing_is_lost(optimizer):
    """A slope, then a long plateau, then the slope again: speed decays, never turns to NaN."""
    opt = BGS([1.0, 2.0, -1.0], 0.1, seed=1, num_directions=2, optimizer=optimizer)
    play(opt, 5)
    play(opt, 300, lambda x: 1.0)
    rest = opt.center
    play(opt, 10, lambda x: 1.0)
    np.testing.assert_allclose(opt.center, rest, rtol=0, atol=1e-12)
    value = sphere(opt.center)
    play(opt, 30)
    assert np.isfinite(opt.center).all()
    assert sphere(opt.center) < value


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "auto"])
@pytest.mark.parametrize("flat", [0, 1])
def test_one_coordinate_is_enough_to_make_progress_along_it(flat, optimizer):
    """The other coordinate does not count for anything; noise may carry it, not far."""
    opt = BGS([1.0, 1.0], 0.05, seed=1, optimizer=optimizer, budget=2000)
    play(opt, 60, lambda x: float(x[1 - flat] - 0.5) ** 2)
    assert abs(opt.center[1 - flat] - 0.5) < 0.25
    assert np.isfinite(opt.center).all()
    assert abs(opt.center[flat] - 1.0) < 2


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_box_of_width_zero_has_one_point(sampler, dtype):
    x0 = np.array([0.1, -0.7], dtype)
    opt = BGS(x0, 0.1, seed=1, sampler=sampler, bounds=(x0, x0))
    for _ in range(5):
        candidates = opt.ask()
        assert (candidates.x == x0).all()
        opt.tell(candidates, [sphere(x) for x in candidates])
    assert opt.center.tobytes() == x0.tobytes()
