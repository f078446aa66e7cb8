"""The sampler of the automatic rule between 256 and 1,000 dimensions: exact where it has to be."""

import numpy as np
import pytest

from bgs_opt import BGS, Options
from bgs_opt.directions import QR
from bgs_opt.hadamard import Hadamard
from bgs_opt.options import MIXED_LIMIT, QR_LIMIT, sampler_of
from bgs_opt.orthogonal import Orthogonal
from tests.conformance import ENTROPY, SamplerConformance, rows_of

F64 = np.dtype(np.float64)


class TestOrthogonal(SamplerConformance):
    sampler = Orthogonal()


@pytest.mark.parametrize(
    ("pairs", "kind"), [(1, Hadamard), (64, Hadamard), (128, Hadamard), (129, QR), (300, QR)]
)
def test_a_generation_gets_structured_rows_while_they_are_orthogonal_to_each_other(pairs, kind):
    given = Orthogonal().bind(300, 300, F64, ENTROPY, {}).of(pairs)
    expected = kind().bind(300, 300, F64, ENTROPY, {})
    numbers = np.arange(min(pairs, 70))
    np.testing.assert_array_equal(
        rows_of(given, 5, numbers, F64), rows_of(expected, 5, numbers, F64)
    )


@pytest.mark.parametrize(
    ("dim", "mixed", "kind"),
    [
        (MIXED_LIMIT, True, QR), (MIXED_LIMIT + 1, True, Orthogonal),
        (MIXED_LIMIT + 1, False, QR), (QR_LIMIT, True, Orthogonal), (QR_LIMIT, False, QR),
        (QR_LIMIT + 1, True, Hadamard), (QR_LIMIT + 1, False, Hadamard),
    ],
)  # fmt: skip
def test_the_name_means_it_where_generations_differ_in_size(dim, mixed, kind):
    assert type(sampler_of("orthogonal", dim, {}, mixed=mixed)) is kind
    assert type(sampler_of("qr", dim, {}, mixed=mixed)) is QR


def moves(opt):
    """What the next candidates add to the center, in units of sigma, and which end each is."""
    candidates = opt.ask()
    return (candidates.x - opt.center) / opt.sigma, candidates


def automatic(dim, sampler="orthogonal", *, noisy):
    return BGS(np.zeros(dim), 0.5, optimizer="auto", sampler=sampler, seed=7,
               budget=40 * dim, options=Options(noisy=noisy))  # fmt: skip


@pytest.mark.parametrize("dim", [300, 1000])
def test_a_full_gradient_is_taken_along_an_exact_basis(dim):
    rows, candidates = moves(automatic(dim, noisy=False))
    basis = rows[candidates.signs > 0]
    assert basis.shape == (dim, dim)
    np.testing.assert_allclose(basis @ basis.T, dim * np.eye(dim), rtol=0, atol=1e-9 * dim)


@pytest.mark.parametrize("dim", [300, 1000])
def test_under_noise_the_run_has_the_bits_of_one_with_structured_rows(dim):
    def centers(sampler):
        opt, rng = automatic(dim, sampler, noisy=True), np.random.default_rng(0)
        for _ in range(4):
            candidates = opt.ask()
            opt.tell(candidates, [float(x @ x) + rng.normal() for x in candidates])
            yield opt.center.tobytes()

    assert list(centers("orthogonal")) == list(centers("hadamard"))


def test_rows_have_the_same_bits_whatever_was_asked_for_before():
    """The small tiles are written out as far as they are used."""
    numbers = np.array([3, 40, 41, 100])
    fresh = [rows_of(Hadamard().bind(1000, 128, F64, ENTROPY, {}), 2, [n], F64) for n in numbers]
    used = Hadamard().bind(1000, 128, F64, ENTROPY, {})
    for first in (numbers[:1], numbers[1:3], numbers[::-1], numbers):
        got = rows_of(used, 2, first, F64)
        for row, number in zip(got, first.tolist(), strict=True):
            np.testing.assert_array_equal(row, fresh[numbers.tolist().index(number)][0])
