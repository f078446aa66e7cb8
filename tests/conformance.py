"""What every sampler and every optimizer must do; a test module subclasses and names its own.

class TestGaussian(SamplerConformance):
    sampler = Gaussian()
"""

import copy
import importlib.util
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import array_api_strict
import numpy as np
import pytest

from bgs_opt.protocols import Optimizer, Sampler

ENTROPY = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677
DIMS = (1, 2, 3, 5, 17, 100, 128, 200, 1000, 4096, 100_003)
DTYPES = (np.float32, np.float64)


def no_layout(dim: int) -> dict[str, tuple[int, ...]]:
    return {}


def rows_of(directions, generation, indices, dtype, gains=1.0) -> np.ndarray:
    """The asked rows as one array, put together from the pieces and checked to be whole.

    Every column of every row must come once, and the pieces of a row in column order. Each
    piece is overwritten after use, as its consumers do, so that a sampler which hands out
    memory it still needs is found.
    """
    indices = np.asarray(indices, np.int64)
    gains = np.ascontiguousarray(np.broadcast_to(np.asarray(gains, dtype), indices.shape))
    out = np.full((len(indices), directions.dim), np.nan, dtype)
    filled = np.zeros(len(indices), np.int64)
    for place, cols, block in directions.blocks(generation, indices, gains):
        assert block.shape == (place.stop - place.start, cols.stop - cols.start)
        assert block.dtype == dtype
        assert (filled[place] == cols.start).all()
        filled[place] = cols.stop
        out[place, cols] = block
        block[...] = np.nan
    assert (filled == directions.dim).all()
    return out


class SamplerConformance:
    """Directions are a pure function of (entropy, generation, index), of norm about sqrt(d)."""

    sampler: ClassVar[Sampler]
    exact_norm: ClassVar[bool] = True
    low_dim_count: ClassVar[int] = 30
    layout: ClassVar[Callable[[int], dict[str, tuple[int, ...]]]] = staticmethod(no_layout)

    @pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
    def dtype(self, request):
        return request.param

    @pytest.fixture(params=DIMS)
    def dim(self, request):
        return request.param

    @pytest.fixture
    def count(self, dim):
        """Rows to look at: more than one ensemble in low dimension, a handful in high."""
        return self.low_dim_count if dim <= 200 else 16 if dim <= 4096 else 4

    def bind(self, dim, dtype, entropy=ENTROPY):
        num_directions, layout = 12 if dim <= 4096 else 4, type(self).layout(dim)
        return self.sampler.bind(dim, num_directions, np.dtype(dtype), entropy, layout)

    def test_a_row_depends_on_entropy_generation_and_index_alone(self, dim, dtype, count):
        expected = rows_of(self.bind(dim, dtype), 3, np.arange(count), dtype)
        assert np.isfinite(expected).all()
        generator = np.random.default_rng(dim)
        directions = self.bind(dim, dtype)
        for size in (1, max(1, count // 3), count):
            chosen = generator.permutation(count)[:size]
            rows_of(directions, 4, chosen, dtype)  # something else in between
            np.testing.assert_array_equal(
                rows_of(directions, 3, chosen, dtype), expected[chosen], strict=True
            )
        repeated = np.array([count - 1, 0, count - 1])
        np.testing.assert_array_equal(rows_of(directions, 3, repeated, dtype), expected[repeated])

    def test_a_row_does_not_depend_on_which_rows_come_with_it(self, dim, dtype, count):
        directions = self.bind(dim, dtype)
        together = rows_of(directions, 0, np.arange(count), dtype)
        for index in {0, 1, count // 2, count - 1}:
            np.testing.assert_array_equal(
                rows_of(directions, 0, [index], dtype)[0], together[index]
            )

    def test_gains_are_applied_to_their_own_rows(self, dim, dtype, count):
        directions = self.bind(dim, dtype)
        plain = rows_of(directions, 1, np.arange(count), dtype)
        generator = np.random.default_rng(1)
        powers = np.ldexp(np.sign(generator.normal(size=count)), generator.integers(-9, 9, count))
        exact = rows_of(directions, 1, np.arange(count), dtype, powers)
        np.testing.assert_array_equal(exact, plain * powers.astype(dtype)[:, None])
        gains = generator.normal(size=count).astype(dtype)
        close = rows_of(directions, 1, np.arange(count), dtype, gains)
        np.testing.assert_allclose(close, plain * gains[:, None], rtol=4 * np.finfo(dtype).eps)

    def test_a_gain_of_any_magnitude_neither_overflows_nor_vanishes(self, dim, dtype):
        directions = self.bind(dim, dtype)
        plain = rows_of(directions, 2, [0, 1], dtype)
        for exponent in (-900, -600, 600, 900) if dtype is np.float64 else (-100, 100):
            gain = np.ldexp(dtype(1), exponent)
            scaled = rows_of(directions, 2, [0, 1], dtype, gain)
            np.testing.assert_array_equal(scaled, plain * gain)

    def test_a_gain_of_zero_gives_a_row_of_zeros(self, dim, dtype):
        rows = rows_of(self.bind(dim, dtype), 2, [0, 1, 2], dtype, [1, 0, 1])
        assert np.isfinite(rows).all()
        assert not rows[1].any()

    def test_the_norm_is_the_root_of_the_dimension(self, dim, dtype, count):
        rows = rows_of(self.bind(dim, dtype), 5, np.arange(count), dtype).astype(np.float64)
        shares = np.sum(rows * rows, axis=1) / dim
        if self.exact_norm:
            np.testing.assert_allclose(shares, 1, rtol=20 * np.finfo(dtype).eps)
        else:
            error = np.std(shares, ddof=1) / np.sqrt(count)
            assert abs(shares.mean() - 1) < 4 * error
            assert error < 1

    def test_other_indices_generations_and_entropies_give_other_rows(self, dim, dtype, count):
        rows = 64 if dim < 17 else min(count, 16)  # of few signs, many, so that none are equal
        make = [
            rows_of(self.bind(dim, dtype), 7, np.arange(rows), dtype),
            rows_of(self.bind(dim, dtype), 7, np.arange(rows, 2 * rows), dtype),
            rows_of(self.bind(dim, dtype), 8, np.arange(rows), dtype),
            rows_of(self.bind(dim, dtype, ENTROPY + 1), 7, np.arange(rows), dtype),
            rows_of(self.bind(dim, dtype, ENTROPY + (1 << 64)), 7, np.arange(rows), dtype),
        ]
        assert len({rows.tobytes() for rows in make}) == len(make)
        if dim >= 100:
            assert len({row.tobytes() for rows in make for row in rows}) == sum(map(len, make))

    def test_pickled_and_copied_directions_give_the_same_rows(self, dim, dtype):
        directions = self.bind(dim, dtype)
        early = pickle.dumps(directions), copy.deepcopy(directions)
        expected = rows_of(directions, 2, [3, 1], dtype)
        late = pickle.dumps(directions), copy.deepcopy(directions)
        for pickled, copied in (early, late):
            assert len(pickled) < 1000  # a description, no rows
            for clone in (pickle.loads(pickled), copied):
                np.testing.assert_array_equal(rows_of(clone, 2, [3, 1], dtype), expected)

    def test_threads_that_share_directions_get_the_same_rows(self, dtype):
        directions = self.bind(200, dtype)
        expected = [rows_of(self.bind(200, dtype), g, [0, 5], dtype) for g in range(4)]

        def work(job):
            return np.array_equal(rows_of(directions, job % 4, [0, 5], dtype), expected[job % 4])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(80)))


# ---- optimizers

NAMESPACES: dict[str, Any] = {"array_api_strict": array_api_strict}
if importlib.util.find_spec("torch"):
    import torch

    NAMESPACES["torch"] = torch


def gradients(count: int, dim: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(count + dim).normal(size=(count, dim)).astype(dtype)


def follow(
    optimizer: Optimizer, steps: np.ndarray, rate: float, convert: Callable = np.array
) -> list:
    """Deltas of successive gradients, each copied; ``convert`` makes fresh arrays."""
    state = optimizer.init(convert(np.zeros_like(steps[0])))
    deltas = []
    for gradient in steps:
        delta, state = optimizer.step(convert(gradient), state, rate)
        deltas.append(np.asarray(delta).copy())
    return deltas


class OptimizerConformance:
    """An ascent rule whose steps are finite, in proportion to the rate, and a pure function."""

    optimizer: ClassVar[Optimizer]
    gradient_scale_matters: ClassVar[bool] = False

    @pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
    def dtype(self, request):
        return request.param

    @pytest.mark.parametrize("dim", [1, 2, 17, 1000])
    def test_zero_gradients_give_zero_steps(self, dim, dtype):
        for delta in follow(self.optimizer, np.zeros((5, dim), dtype), 0.1):
            assert delta.dtype == dtype
            np.testing.assert_array_equal(delta, np.zeros(dim))

    def test_a_zero_gradient_later_leaves_everything_finite(self, dtype):
        steps = gradients(6, 9, dtype)
        steps[2:] = 0
        lengths = [float(np.linalg.norm(d)) for d in follow(self.optimizer, steps, 0.1)]
        assert np.isfinite(lengths).all()
        assert lengths[-1] < lengths[1]

    @pytest.mark.parametrize("dim", [1, 2, 17, 1000])
    def test_the_first_step_ascends(self, dim, dtype):
        steps = gradients(1, dim, dtype)
        (delta,) = follow(self.optimizer, steps, 0.1)
        assert delta.shape == (dim,)
        assert float(delta @ steps[0]) > 0

    def test_steps_are_proportional_to_the_learning_rate(self, dtype):
        steps = gradients(10, 17, dtype)
        for one, four in zip(
            follow(self.optimizer, steps, 0.125), follow(self.optimizer, steps, 0.5), strict=True
        ):
            np.testing.assert_allclose(four, 4 * one, rtol=1e-5 if dtype is np.float32 else 1e-12)

    @pytest.mark.parametrize("factor", [2.0**-10, 2.0**20])
    def test_the_scale_of_the_gradient_matters_only_to_plain_steps(self, factor):
        steps = gradients(10, 17)
        for plain, scaled in zip(
            follow(self.optimizer, steps, 0.1),
            follow(self.optimizer, steps * factor, 0.1),
            strict=True,
        ):
            expected = plain * factor if self.gradient_scale_matters else plain
            # Adam's epsilon is an absolute number: 1e-8 against gradients of 1e-3
            np.testing.assert_allclose(scaled, expected, rtol=0.05 if factor < 1 else 1e-6)

    def test_the_dtype_is_kept(self, dtype):
        assert all(d.dtype == dtype for d in follow(self.optimizer, gradients(3, 5, dtype), 0.1))
        state = self.optimizer.init(np.zeros(5, dtype))
        arrays = [value for value in state.values() if isinstance(value, np.ndarray)]
        assert all(array.dtype == dtype and array.shape == (5,) for array in arrays)

    def test_two_runs_of_one_description_do_not_meet(self):
        first, second = gradients(8, 5), gradients(8, 5)[::-1]
        alone = follow(self.optimizer, first, 0.1), follow(self.optimizer, second, 0.1)
        states = [self.optimizer.init(np.zeros(5)) for _ in range(2)]
        for number in range(8):
            for which, steps in enumerate((first, second)):
                delta, states[which] = self.optimizer.step(
                    steps[number].copy(), states[which], 0.1
                )
                np.testing.assert_array_equal(delta, alone[which][number])

    def test_init_leaves_the_center_alone(self):
        center = np.arange(5.0)
        state = self.optimizer.init(center)
        self.optimizer.step(np.ones(5), state, 0.1)
        np.testing.assert_array_equal(center, np.arange(5.0))

    def test_a_pickled_state_continues_with_the_same_bits(self):
        steps = gradients(10, 7)
        expected = follow(self.optimizer, steps, 0.1)
        state = self.optimizer.init(np.zeros(7))
        for number, gradient in enumerate(steps):
            state, optimizer = pickle.loads(pickle.dumps((state, self.optimizer)))
            delta, state = optimizer.step(gradient.copy(), state, 0.1)
            np.testing.assert_array_equal(delta, expected[number])

    @pytest.mark.parametrize("namespace", NAMESPACES)
    def test_arrays_of_another_namespace_give_the_numbers_of_numpy(self, namespace, dtype):
        xp, steps = NAMESPACES[namespace], gradients(20, 33, dtype)
        other = follow(self.optimizer, steps, 0.1, lambda x: xp.asarray(x.copy()))
        rtol = 1e-5 if dtype is np.float32 else 1e-12
        for ours, numpys in zip(other, follow(self.optimizer, steps, 0.1), strict=True):
            np.testing.assert_allclose(ours, numpys, rtol=rtol, atol=0.01 * rtol)
            assert ours.dtype == dtype

    @pytest.mark.parametrize("dim", [1, 10, 1000])
    def test_the_default_learning_rate_is_in_proportion_to_sigma(self, dim):
        rate = self.optimizer.default_learning_rate(0.5, dim)
        assert rate > 0
        assert self.optimizer.default_learning_rate(0.125, dim) == rate / 4
