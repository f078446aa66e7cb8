"""What the method rests on, measured over fixed seeds: isotropy, unbiasedness, orthogonality.

A z-value is a mean over its standard error; with the seeds fixed a test passes or fails for
ever. Each bound is one that a correct sampler exceeds once in 10,000 draws of the seed or less.
"""

import functools
import math

import numpy as np
import pytest
from scipy import stats

from bgs_opt import BGS, Options
from bgs_opt.directions import QR, Factorised, Gaussian, GaussianTable, Rademacher
from bgs_opt.hadamard import Hadamard
from tests.conformance import ENTROPY, rows_of

SAMPLERS = {
    "gaussian": (Gaussian(), None),
    "table": (GaussianTable(), None),
    "rademacher": (Rademacher(), None),
    "qr": (QR(), None),
    "hadamard": (Hadamard(), None),
    "factorised": (Factorised(), lambda dim: {"w": (2, dim // 3), "b": (dim - 2 * (dim // 3),)}),
}
each_sampler = pytest.mark.parametrize("name", SAMPLERS)


def bind(name, dim, num_directions, dtype=np.float64):
    sampler, layout = SAMPLERS[name]
    return sampler.bind(
        dim, num_directions, np.dtype(dtype), ENTROPY, layout(dim) if layout else {}
    )


@functools.lru_cache(maxsize=100)
def ensembles(name, dim, num_directions, generations, dtype=np.float64):
    """Rows of many generations, shape (generations, N, d), read-only."""
    bound = bind(name, dim, num_directions, dtype)
    indices = np.arange(num_directions)
    rows = np.stack([rows_of(bound, g, indices, dtype) for g in range(generations)])
    rows.flags.writeable = False
    return rows


def z_values(samples: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """z of the mean over axis 0; what does not vary must be right, and counts as 0."""
    error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    exact = error < 1e-9
    off = samples.mean(axis=0) - expected
    np.testing.assert_allclose(off[exact], 0, atol=1e-9)
    return np.where(exact, 0.0, off / np.where(exact, 1.0, error))


def largest_expected(count: int) -> float:
    """Bound on the largest of ``count`` z-values, exceeded with probability 1e-4."""
    return float(stats.norm.isf(1e-4 / (2 * count)))


# ---- isotropy


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 6, 12])
@each_sampler
def test_the_mean_of_e_e_transposed_is_the_identity(name, dim):
    """One sample is the mean over the rows of a generation, which depend on each other."""
    rows = ensembles(name, dim, 6, 300)
    moments = np.einsum("gia,gib->gab", rows, rows) / 6
    z = z_values(moments, np.eye(dim))[np.triu_indices(dim)]
    assert np.abs(z).max() < largest_expected(len(z))


@pytest.mark.parametrize("dim", [100, 130, 300])
@each_sampler
def test_the_mean_of_e_e_transposed_is_the_identity_across_tiles_and_blocks(name, dim):
    """On 24 columns: the first, the last, those at the edges of tiles, and others at random."""
    edges = [0, 1, 63, 64, 99, 127, 128, 129, 255, 256, dim - 2, dim - 1]
    random = np.random.default_rng(dim).permutation(dim).tolist()
    columns = list(dict.fromkeys([c for c in edges if c < dim] + random))[:24]
    rows = ensembles(name, dim, 8, 160, np.float32)[:, :, columns].astype(np.float64)
    moments = np.einsum("gia,gib->gab", rows, rows) / 8
    z = z_values(np.round(moments, 6), np.eye(24))[np.triu_indices(24)]
    assert np.abs(z).max() < largest_expected(len(z))
    assert np.mean(z**2) < 1.5


@each_sampler
def test_directions_have_mean_zero_and_those_of_a_generation_are_uncorrelated(name):
    rows = ensembles(name, 6, 6, 300)[:, :4]
    if name not in {"hadamard"}:  # its rows have a sign dropped: it is that of the whole pair
        means = z_values(rows, np.zeros((4, 6)))
        assert np.abs(means).max() < largest_expected(24)
    for i, j in [(0, 1), (0, 3), (2, 3)]:
        products = rows[:, i, :, None] * rows[:, j, None, :]
        z = z_values(products, np.zeros((6, 6)))
        assert np.abs(z).max() < largest_expected(36)


@pytest.mark.parametrize("name", ["gaussian", "table", "rademacher", "hadamard", "factorised"])
def test_successive_generations_are_uncorrelated(name):
    rows = ensembles(name, 6, 6, 300)[:, :2]
    products = rows[1:, :, :, None] * rows[:-1, :, None, :]
    z = z_values(products, np.zeros((2, 6, 6)))
    assert np.abs(z).max() < largest_expected(72) + 0.5


@pytest.mark.parametrize("name", ["qr", "hadamard"])
@pytest.mark.parametrize("dim", [8, 64, 128])
def test_rows_of_orthogonal_samplers_are_orthogonal_in_every_generation(name, dim):
    rows = ensembles(name, dim, 8, 30)
    gram = np.einsum("gia,gja->gij", rows, rows)
    np.testing.assert_allclose(
        gram, np.broadcast_to(dim * np.eye(8), gram.shape), atol=1e-11 * dim
    )


@pytest.mark.parametrize("name", ["qr", "hadamard"])
def test_numbers_of_structured_rows_are_close_to_normal(name):
    """In high dimension a coordinate of a random rotation is a normal number."""
    numbers = ensembles(name, 16_384, 4, 2)[:, :, ::7].ravel()
    assert stats.kstest(numbers, "norm").statistic < 0.02
    assert stats.kurtosis(numbers) == pytest.approx(0, abs=0.2)


# ---- factorised rows


def test_factorised_rows_have_variance_one_an_entry_and_rank_one():
    layout = {"w": (4, 3), "conv": (2, 3, 2), "b": (3,)}
    bound = Factorised().bind(27, 6, np.dtype(np.float64), ENTROPY, layout)
    rows = np.concatenate([rows_of(bound, g, np.arange(6), np.float64) for g in range(300)])
    z = z_values(rows**2, np.ones(27))
    assert np.abs(z).max() < largest_expected(27)
    for start, shape in [(0, (4, 3)), (12, (2, 6))]:
        for row in rows[:50]:
            part = row[start : start + 12].reshape(shape)
            assert np.linalg.matrix_rank(part, rtol=1e-12) == 1
    # u_i^2 v_j^2 with E u^4 = 3: fourth moment 9 in a matrix, 3 in a vector
    assert np.mean(rows[:, :24] ** 4) == pytest.approx(9, rel=0.15)
    assert np.mean(rows[:, 24:] ** 4) == pytest.approx(3, rel=0.15)


# ---- the gradient estimate


def estimates(rows, difference, sigma=0.5):
    """(1/N) sum_i (f(c + sigma e_i) - f(c - sigma e_i)) / (2 sigma) e_i of each generation."""
    weights = difference(sigma * rows) / (2 * sigma * rows.shape[1])
    return np.einsum("gi,gid->gd", weights, rows)


def functions(dim):
    """Name to (f(x + c) for many x, gradient at c), with c, slope and curvature at random."""
    random = np.random.default_rng(dim)
    center, slope = random.normal(size=(2, dim))
    half = random.normal(size=(dim, dim))
    curvature = half + half.T  # indefinite
    return {
        "linear": (lambda x: (x + center) @ slope + 7.0, slope),
        "quadratic": (
            lambda x: (
                0.5 * np.einsum("...a,ab,...b", x + center, curvature, x + center) + x @ slope
            ),
            curvature @ center + slope,
        ),
    }


@pytest.mark.parametrize(("dim", "num_directions"), [(1, 6), (4, 6), (12, 6), (20, 30)])
@each_sampler
def test_the_gradient_estimate_of_linear_and_quadratic_functions_is_unbiased(
    name, dim, num_directions
):
    rows = ensembles(name, dim, num_directions, 300 if dim < 20 else 100)
    for fun, gradient in functions(dim).values():
        found = estimates(rows, lambda e, fun=fun: fun(e) - fun(-e))
        z = z_values(np.round(found, 10), gradient)
        assert np.abs(z).max() < largest_expected(dim)


@pytest.mark.parametrize(
    ("name", "dim"), [("qr", 7), ("qr", 32), ("hadamard", 8), ("hadamard", 64)]
)
def test_as_many_orthogonal_directions_as_dimensions_give_the_gradient_itself(name, dim):
    for fun, gradient in functions(dim).values():
        found = estimates(ensembles(name, dim, dim, 3), lambda e, fun=fun: fun(e) - fun(-e))
        np.testing.assert_allclose(found, np.tile(gradient, (3, 1)), rtol=1e-9, atol=1e-9)


def test_the_estimate_of_a_cubic_has_the_bias_of_a_smoothed_function():
    """E[(s e)^3 e / s] = 3 s^2 for normal e: the test above can see a bias of that size."""
    rows = ensembles("gaussian", 1, 6, 1500)
    found = estimates(rows, lambda e: (e**3 - (-e) ** 3)[..., 0], sigma=0.2)
    z = z_values(found, np.array([0.0]))
    assert abs(z[0]) > 10
    assert abs(z_values(found, np.array([3 * 0.2**2]))[0]) < 4


# in units of |g|^2: (d + 1)/N for normal rows, (d - 1)/N for signs, d/N - 1 for orthogonal rows
@pytest.mark.parametrize(
    ("name", "expected"),
    [("gaussian", 17 / 6), ("table", 17 / 6), ("rademacher", 15 / 6), ("qr", 10 / 6),
     ("hadamard", 10 / 6)],
)  # fmt: skip
def test_the_variance_of_the_estimate_is_that_of_theory(name, expected):
    slope = np.ones(16)
    found = estimates(ensembles(name, 16, 6, 400), lambda e: 2 * e @ slope)
    variance = np.sum((found - slope) ** 2, axis=1) / 16
    error = variance.std() / math.sqrt(len(variance))
    assert abs(variance.mean() - expected) < 4 * error + 1e-9
    assert error < 0.15


@pytest.mark.parametrize("sampler", ["gaussian", "qr"])
def test_the_mean_step_of_a_run_points_down_the_slope(sampler):
    """s_R and the selection scale a step; by symmetry they cannot turn its mean."""
    slope, steps = np.array([2.0, -1.0, 0.5, 0.0, 3.0]), []
    for seed in range(200):
        opt = BGS(np.zeros(5), 0.1, num_directions=4, top_k=2, sampler=sampler, optimizer="sgd",
                  seed=seed)  # fmt: skip
        candidates = opt.ask()
        opt.tell(candidates, candidates.x @ slope)
        steps.append(opt.center)
    steps = np.array(steps)
    unit = slope / np.linalg.norm(slope)
    along = steps @ unit
    assert along.mean() < -10 * along.std() / math.sqrt(len(along))
    across = steps - along[:, None] * unit
    z = across.mean(axis=0) / (across.std(axis=0, ddof=1) / math.sqrt(len(across)))
    assert np.abs(z).max() < largest_expected(5)


@pytest.mark.parametrize("noisy_end", ["pair", "none"])
def test_common_seeds_lower_the_variance_of_a_step(noisy_end):
    """Noise that both ends of a pair share cancels; of its own at each end it stays."""
    spread = []
    for mode in ("pair", noisy_end):
        options, cosines = Options(common_seeds=mode), []
        for seed in range(20):
            opt = BGS(np.zeros(4), 0.1, num_directions=4, top_k=4, optimizer="sgd", seed=seed,
                      options=options)  # fmt: skip
            candidates = opt.ask()
            noise = [np.random.default_rng(s).normal() for s in candidates.seeds.tolist()]
            opt.tell(candidates, candidates.x.sum(axis=1) + noise)
            cosines.append(-opt.center.sum() / (2 * np.linalg.norm(opt.center)))
        spread.append(np.mean(cosines))
    assert spread[0] > 1 - 1e-12  # four orthogonal directions in four dimensions
    assert (spread[1] < 0.5) == (noisy_end == "none")
