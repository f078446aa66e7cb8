"""Running moments against NumPy's own mean and variance."""

import numpy as np
import pytest

from bgs_opt.normalization import RunningMoments


def gathered(parts):
    seen = RunningMoments.of_size(parts[0].shape[-1])
    for part in parts:
        seen = seen.updated(part)
    return seen


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3], [500], [3, 3, 999], list(range(1, 1000))],
                         ids=len)  # fmt: skip
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e3])
def test_moments_in_any_parts_are_those_of_numpy(cuts, offset):
    x = np.random.default_rng(1).normal(size=(1000, 4)) * [1, 1e-3, 1e3, 0] + offset
    seen = gathered(np.split(x, cuts))
    assert seen.count == 1000
    assert np.allclose(seen.mean, x.mean(axis=0), rtol=1e-13, atol=1e-13)
    # two-pass figures of NumPy: rounding of the offset's square is what one pass would lose
    assert np.allclose(seen.variance, x.var(axis=0), rtol=1e-9, atol=1e-20 * offset**2 + 1e-300)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_parts_of_workers_merge_to_the_whole(workers):
    x = np.random.default_rng(2).normal(size=(210, 3)) * [1, 10, 100] - 5
    parts = [RunningMoments.of_size(3).updated(part) for part in np.split(x, workers)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merged(part)
    assert whole.count == 210
    assert np.allclose(whole.mean, x.mean(axis=0), rtol=1e-13)
    assert np.allclose(whole.variance, x.var(axis=0), rtol=1e-12)
    backwards = parts[-1]
    for part in parts[-2::-1]:
        backwards = backwards.merged(part)
    assert np.allclose(backwards.variance, whole.variance, rtol=1e-12)


def test_an_empty_part_changes_nothing():
    seen = RunningMoments.of_size(2).updated([[1.0, 2.0], [3.0, 5.0]])
    nothing = RunningMoments.of_size(2)
    assert seen.merged(nothing) is nothing.merged(seen) is seen.updated(np.empty((0, 2))) is seen


def test_what_was_seen_is_normalized_to_mean_zero_and_variance_one():
    x = np.random.default_rng(3).normal(3, 20, (400, 2))
    made = RunningMoments.of_size(2).updated(x).normalized(x)
    assert np.allclose(made.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(made.var(axis=0), 1)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5, -3e-7])
def test_a_constant_is_moved_to_zero_and_not_blown_up(constant):
    seen = gathered([np.full((1, 1), constant)] * 50)
    assert abs(seen.normalized([constant])[0]) < 1e-6
    assert seen.normalized([constant + 0.5])[0] == pytest.approx(0.5)


def test_before_the_first_observation_nothing_is_changed_and_one_alone_is_not_divided():
    nothing = RunningMoments.of_size(2)
    assert nothing.normalized([3.0, 4.0]).tolist() == [3.0, 4.0]
    assert nothing.updated([1.0, 1.0]).normalized([3.0, 4.0]).tolist() == [2.0, 3.0]


def test_far_observations_are_clipped_and_the_dtype_is_kept():
    seen = RunningMoments.of_size(1).updated([[-1.0], [1.0]])
    made = seen.normalized(np.array([[50.0], [-50.0], [0.5]], np.float32), clip=10)
    assert made.tolist() == [[10.0], [-10.0], [0.5]]
    assert made.dtype == np.float32
    assert seen.normalized([3]).dtype == np.float64


def test_moments_are_never_changed_and_come_back_from_their_state():
    seen = RunningMoments.of_size(2).updated([[1.0, 2.0], [3.0, 5.0]])
    before = seen.mean.copy()
    seen.updated([[100.0, 100.0]])
    assert np.array_equal(seen.mean, before)
    with pytest.raises(ValueError, match="read-only"):
        seen.mean[0] = 1
    again = RunningMoments(
        **{k: np.array(v) if k != "count" else v for k, v in seen.state().items()}
    )
    assert np.array_equal(again.updated([[4.0, 4.0]]).squares, seen.updated([[4.0, 4.0]]).squares)


@pytest.mark.parametrize(("observations", "error"), [
    ([[1.0, np.nan]], ValueError), ([[1.0, np.inf]], ValueError), ([1.0, 2.0, 3.0], ValueError),
    (3.0, ValueError), (["a", "b"], TypeError), ([[1j, 2.0]], TypeError),
], ids=str)  # fmt: skip
def test_bad_observations_are_refused_by_name(observations, error):
    seen = RunningMoments.of_size(2).updated([[1.0, 2.0]])
    with pytest.raises(error, match="observations: expected finite numbers"):
        seen.updated(observations)
    assert seen.count == 1


def test_other_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="size: expected"):
        RunningMoments.of_size(0)
    with pytest.raises(ValueError, match="other: expected size 2; got 3"):
        RunningMoments.of_size(2).merged(RunningMoments.of_size(3))
    with pytest.raises(ValueError, match="clip: expected"):
        RunningMoments.of_size(2).normalized([1.0, 2.0], clip=0.0)
