"""Step rules against independent loops written from the papers, in plain float64."""

import math

import numpy as np
import pytest

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.optimizers import SGD, Adam, ClipUp
from tests.conformance import OptimizerConformance, follow, gradients

RATE = 0.05


class TestPlainSteps(OptimizerConformance):
    optimizer = SGD()
    gradient_scale_matters = True


class TestMomentum(OptimizerConformance):
    optimizer = SGD(momentum=0.8)
    gradient_scale_matters = True


class TestAdam(OptimizerConformance):
    optimizer = Adam()


class TestClipUp(OptimizerConformance):
    optimizer = ClipUp()


class TestClipUpWithoutMomentum(OptimizerConformance):
    optimizer = ClipUp(momentum=0.0)


# ---- the papers, one coordinate at a time


def adam_of_the_paper(steps, beta1, beta2, epsilon):
    """Kingma & Ba 2015, algorithm 1 (ascent): lists of floats, no arrays."""
    dim = steps.shape[1]
    m, v, out = [0.0] * dim, [0.0] * dim, []
    for t, gradient in enumerate(steps.tolist(), 1):
        delta = []
        for i, g in enumerate(gradient):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            delta.append(RATE * m_hat / (math.sqrt(v_hat) + epsilon))
        out.append(delta)
    return out


def clipup_of_the_paper(steps, momentum, max_speed):
    """Toklu et al. 2020, algorithm 1 and its function clip."""
    velocity, out = [0.0] * steps.shape[1], []
    for gradient in steps.tolist():
        length = math.sqrt(math.fsum(g * g for g in gradient))
        velocity = [
            momentum * v + RATE * g / length for v, g in zip(velocity, gradient, strict=True)
        ]
        speed = math.sqrt(math.fsum(v * v for v in velocity))
        if speed > max_speed:
            velocity = [max_speed * v / speed for v in velocity]
        out.append(list(velocity))
    return out


def momentum_of_the_textbook(steps, momentum):
    velocity, out = [0.0] * steps.shape[1], []
    for gradient in steps.tolist():
        velocity = [momentum * v + g for v, g in zip(velocity, gradient, strict=True)]
        out.append([RATE * v for v in velocity])
    return out


CASES = {
    "adam": (Adam(), lambda s: adam_of_the_paper(s, 0.9, 0.999, 1e-8)),
    "adam-other": (Adam(0.5, 0.9, 1e-3), lambda s: adam_of_the_paper(s, 0.5, 0.9, 1e-3)),
    "adam-no-memory": (Adam(0.0, 0.0), lambda s: adam_of_the_paper(s, 0.0, 0.0, 1e-8)),
    "clipup": (ClipUp(), lambda s: clipup_of_the_paper(s, 0.9, 2 * RATE)),
    "clipup-slow": (ClipUp(0.99, 0.5), lambda s: clipup_of_the_paper(s, 0.99, 0.5 * RATE)),
    "clipup-fast": (ClipUp(0.9, 50.0), lambda s: clipup_of_the_paper(s, 0.9, 50 * RATE)),
    "sgd": (SGD(), lambda s: momentum_of_the_textbook(s, 0.0)),
    "momentum": (SGD(0.7), lambda s: momentum_of_the_textbook(s, 0.7)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dim", [1, 3, 40])
@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["noise", "drift"])
def test_steps_are_those_of_an_independent_loop(case, dim, drift):
    optimizer, reference = CASES[case]
    steps = gradients(60, dim) + drift
    np.testing.assert_allclose(
        follow(optimizer, steps, RATE), reference(steps), rtol=1e-11, atol=1e-15
    )


def test_clipup_moves_at_its_speed_limit_along_a_steady_gradient():
    deltas = follow(ClipUp(), np.tile([3.0, 4.0], (50, 1)), RATE)
    np.testing.assert_allclose(deltas[0], [0.6 * RATE, 0.8 * RATE], rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(deltas[-1]), 2 * RATE, rtol=1e-14)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_clipup_takes_gradients_of_any_magnitude(size):
    deltas = follow(ClipUp(momentum=0.0), gradients(3, 9) * size, RATE)
    np.testing.assert_allclose(np.linalg.norm(deltas, axis=1), RATE, rtol=1e-12)


def test_adam_moves_a_coordinate_by_about_the_learning_rate():
    first = follow(Adam(), gradients(1, 100), RATE)[0]
    np.testing.assert_allclose(np.abs(first), RATE, rtol=1e-5)


def test_the_default_rate_of_plain_steps_is_the_published_ratio():
    assert SGD().default_learning_rate(0.025, 7) == pytest.approx(0.00375)
    assert SGD(0.9).default_learning_rate(0.025, 7) == pytest.approx(0.000375)


def test_the_default_rate_of_clipup_is_a_share_of_the_search_radius():
    rates = [ClipUp().default_learning_rate(0.3, dim) for dim in (1, 100, 10_000)]
    np.testing.assert_allclose(rates, [0.01, 0.1, 1.0])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda v: SGD(momentum=v), "momentum"),
        (lambda v: Adam(beta1=v), "beta1"),
        (lambda v: Adam(beta2=v), "beta2"),
        (lambda v: ClipUp(momentum=v), "momentum"),
    ],
)
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan, math.inf, "0.5", None, True])
def test_a_decay_outside_of_zero_to_one_is_refused_by_name(make, name, value):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"^{name}: expected"):
        make(value)


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda v: Adam(epsilon=v), "epsilon"), (lambda v: ClipUp(0.9, v), "max_speed")],
)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, None])
def test_a_size_that_is_not_positive_is_refused_by_name(make, name, value):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"^{name}: expected"):
        make(value)
