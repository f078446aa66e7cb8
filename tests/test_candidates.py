"""Points and seeds of a generation, put together again from the directions one by one."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from bgs_opt.bounds import clip, reflect
from bgs_opt.candidates import SLOT_BITS, Candidates, Source
from bgs_opt.directions import QR, Gaussian
from bgs_opt.errors import ArgumentTypeError
from bgs_opt.hadamard import Hadamard
from bgs_opt.streams import evaluation_seeds
from tests.conformance import ENTROPY, rows_of

PAIRS = 5
GENERATION = 6


def source(
    *,
    dim=7,
    dtype=np.float64,
    sampler=None,
    num_center=0,
    repeats=1,
    probe=False,
    scale=False,
    bounds=None,
    common_seeds="pair",
    scenarios=1,
):
    generator = np.random.default_rng(dim)
    low = high = None
    if bounds:
        low, high = np.full(dim, -0.5, dtype), np.full(dim, 0.75, dtype)
    return Source(
        generation=GENERATION,
        center=generator.uniform(-0.4, 0.4, dim).astype(dtype),
        sigma=0.25,
        scale=generator.uniform(0.5, 2, dim).astype(dtype) if scale else None,
        probe=generator.normal(size=dim).astype(dtype) if probe else None,
        directions=(sampler or Gaussian()).bind(dim, PAIRS, np.dtype(dtype), ENTROPY, {}),
        entropy=ENTROPY,
        low=low,
        high=high,
        bound_mode=bounds or "reflect",
        num_center=num_center,
        repeats=repeats,
        common_seeds=common_seeds,
        scenarios=scenarios,
    )


def points_of(source: Source) -> np.ndarray:
    """All points by equation 3, one row at a time, in the order of the slots."""
    dim, dtype = len(source.center), source.center.dtype
    out = [source.center] * source.num_center
    for pair in range(PAIRS):
        direction = rows_of(source.directions, GENERATION, [pair], dtype)[0]
        if pair == 0 and source.probe is not None:
            direction = source.probe
        move = direction * dtype.type(source.sigma)
        if source.scale is not None:
            move = move * source.scale
        out += [source.center + move, source.center - move] * source.repeats
    points = np.array(out, dtype).reshape(-1, dim)
    if source.low is not None:
        fold = {"reflect": reflect, "clip": clip}[source.bound_mode]
        points = fold(points, source.low, source.high)
    return points


def everything(source: Source) -> Candidates:
    count = source.num_center + 2 * source.repeats * PAIRS
    return Candidates(source, np.arange(count, dtype=np.int64))


SETTINGS = {
    "plain": {},
    "float32": {"dtype": np.float32},
    "one-dimension": {"dim": 1},
    "centers": {"num_center": 2},
    "one-center": {"num_center": 1},
    "repeats": {"repeats": 3},
    "repeats-and-center": {"repeats": 2, "num_center": 3, "dtype": np.float32},
    "probe": {"probe": True},
    "probe-and-center": {"probe": True, "num_center": 1},
    "probe-and-repeats": {"probe": True, "num_center": 2, "repeats": 2},
    "scale": {"scale": True, "probe": True},
    "clip": {"bounds": "clip"},
    "reflect": {"bounds": "reflect", "scale": True, "dtype": np.float32},
    "qr": {"sampler": QR(), "num_center": 1},
    "hadamard": {"sampler": Hadamard(), "dim": 1700},
    "hadamard-long": {"sampler": Hadamard(), "dim": 70_000, "num_center": 1},
}
each_setting = pytest.mark.parametrize("name", SETTINGS)


@each_setting
def test_all_points_are_center_plus_and_minus_the_scaled_directions(name):
    made = source(**SETTINGS[name])
    x = everything(made).x
    assert x.dtype == made.center.dtype
    np.testing.assert_array_equal(x, points_of(made))


@each_setting
def test_any_choice_of_rows_in_any_order_has_the_same_bits(name):
    made = source(**SETTINGS[name])
    candidates, expected = everything(made), points_of(made)
    total, generator = len(candidates), np.random.default_rng(0)
    choices = [[i] for i in range(min(total, 6))]
    choices += [range(i, total) for i in range(1, 5)] + [range(i, i + 4) for i in range(4)]
    choices += [range(total - 1, -1, -1), range(0, total, 2), range(1, total, 2), [3, 3, 2, 2]]
    choices += [generator.permutation(total)[:size] for size in (2, 5, total)]
    for choice in map(list, choices):
        np.testing.assert_array_equal(candidates[choice].x, expected[choice])


@each_setting
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 1000])
def test_blocks_bring_every_row_once_in_order(name, rows):
    made = source(**SETTINGS[name])
    candidates, expected, start, buffers = everything(made), points_of(made), 0, set()
    for ids, x in candidates.blocks(rows):
        assert 1 <= len(ids) == len(x) <= rows
        np.testing.assert_array_equal(ids, candidates.ids[start : start + len(ids)])
        np.testing.assert_array_equal(x, expected[start : start + len(ids)])
        buffers.add(x.__array_interface__["data"][0])
        x[...] = np.nan  # the reader may overwrite its block
        start += len(ids)
    assert start == len(candidates)
    assert len(buffers) == 1


@pytest.mark.parametrize("num_center", [0, 1, 2])
def test_blocks_of_an_even_number_of_rows_keep_pairs_together(num_center):
    candidates = everything(source(num_center=num_center))
    for ids, _ in candidates.blocks(4):
        offsets = (ids & ((1 << SLOT_BITS) - 1)) - num_center
        pairs, counts = np.unique(offsets[offsets >= 0] // 2, return_counts=True)
        assert (counts == 2).all(), pairs


@each_setting
def test_rows_one_by_one_are_the_rows_of_all(name):
    made = source(**SETTINGS[name])
    candidates, expected = everything(made), points_of(made)
    rows = list(candidates)
    assert len(rows) == len(candidates) == len(expected)
    for index, row in enumerate(rows):
        assert row.shape == (candidates.dim,)
        np.testing.assert_array_equal(row, expected[index])
        assert not row.flags.writeable
    for index in (0, 2, -1, np.int64(1), -len(expected)):
        np.testing.assert_array_equal(candidates[index], expected[index])
        assert not candidates[index].flags.writeable


def test_all_points_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        everything(source()).x[0, 0] = 1


def test_without_rows_there_is_nothing_and_no_error():
    empty = everything(source())[[]]
    assert len(empty) == 0
    assert empty.x.shape == (0, 7)
    assert empty.ids.shape == empty.seeds.shape == empty.signs.shape == (0,)
    assert list(empty) == list(empty.blocks(3)) == []


# ---- ids, signs, parts


def test_ids_are_generation_and_slot_and_survive_every_kind_of_part():
    candidates = everything(source(num_center=1))
    ids = GENERATION * 2**32 + np.arange(11)
    np.testing.assert_array_equal(candidates.ids, ids)
    assert candidates.ids.dtype == np.int64
    mask = np.arange(11) % 3 == 0
    parts = [slice(2, 9), slice(None, None, -2), [4, 1], np.array([0, 10]), mask, mask.tolist()]
    for part in parts:
        np.testing.assert_array_equal(candidates[part].ids, ids[part])
    np.testing.assert_array_equal(candidates[3:][mask[3:]][::-1].ids, ids[3:][mask[3:]][::-1])


def test_signs_and_sizes_say_what_is_what():
    candidates = everything(source(num_center=2, repeats=2))
    assert candidates.signs.tolist() == [0, 0] + [1, -1] * 10
    assert (candidates.generation, candidates.dim, len(candidates)) == (GENERATION, 7, 22)
    assert repr(candidates) == "Candidates(n=22, dim=7, generation=6)"


@pytest.mark.parametrize("index", [1.5, "a", None, (1, 2, 3.0), [[1]], True])
def test_an_index_of_another_kind_is_refused(index):
    with pytest.raises(ArgumentTypeError, match="^index: expected"):
        everything(source())[index]


@pytest.mark.parametrize("index", [10, -11, [10]])
def test_an_index_beyond_the_end_is_an_index_error(index):
    with pytest.raises(IndexError):
        everything(source())[index]


# ---- seeds


@pytest.mark.parametrize(("num_center", "repeats"), [(0, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("mode", ["pair", "generation", "none"])
def test_seeds_are_shared_by_just_those_evaluations_that_should(mode, num_center, repeats):
    made = source(num_center=num_center, repeats=repeats, common_seeds=mode)
    candidates = everything(made)
    pairs, signs, repeat = made.pairs_of(candidates.ids & ((1 << SLOT_BITS) - 1))
    seeds = candidates.seeds.tolist()
    for i, j in itertools.combinations(range(len(seeds)), 2):
        same_group = signs[i] == signs[j] == 0 or (signs[i] and signs[j] and pairs[i] == pairs[j])
        shared = {
            "pair": same_group and repeat[i] == repeat[j],
            "generation": repeat[i] == repeat[j],
            "none": False,
        }[mode]
        assert (seeds[i] == seeds[j]) == bool(shared)


def test_seeds_of_pairs_are_the_documented_ones():
    candidates = everything(source(num_center=1, repeats=2))
    groups = np.array([0] + [p + 1 for p in range(PAIRS) for _ in range(4)])
    repeats = np.array([0] + [0, 0, 1, 1] * PAIRS)
    expected = evaluation_seeds(ENTROPY, GENERATION, groups, repeats)
    np.testing.assert_array_equal(candidates.seeds, expected)
    np.testing.assert_array_equal(candidates[[5, 0]].seeds, expected[[5, 0]])


# ---- sending them away


@pytest.mark.parametrize("clone", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
@each_setting
def test_copies_have_the_same_points_ids_and_seeds(name, clone):
    candidates = everything(source(**SETTINGS[name]))
    copied = clone(candidates[1:5])
    np.testing.assert_array_equal(copied.x, candidates.x[1:5])
    np.testing.assert_array_equal(copied.ids, candidates.ids[1:5])
    np.testing.assert_array_equal(copied.seeds, candidates.seeds[1:5])


@pytest.mark.parametrize("sampler", [Gaussian(), Hadamard(), QR()], ids=lambda s: type(s).__name__)
def test_a_pickle_holds_the_center_and_no_rows(sampler):
    candidates = everything(source(dim=10_000, sampler=sampler))
    candidates.x  # noqa: B018  (what was computed is not carried along)
    assert len(pickle.dumps(candidates)) < 8 * 10_000 + 2_000


# ---- the sum over directions


@pytest.mark.parametrize("name", ["plain", "float32", "probe", "hadamard", "qr"])
def test_the_weighted_sum_is_that_of_the_directions_and_the_probe(name):
    made = source(**SETTINGS[name])
    dtype, dim = made.center.dtype, len(made.center)
    pairs, weights = np.array([0, 1, 3, 4]), np.array([0.5, -1.25, 0.0, 2.0])
    rows = rows_of(made.directions, GENERATION, pairs, dtype)
    if made.probe is not None:
        rows[0] = made.probe
    out = made.weighted_sum(pairs, weights, np.ones(dim, dtype))
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(out, 1 + weights @ rows, rtol=rtol, atol=rtol)


def test_a_zero_weight_costs_no_direction():
    class Refusing:
        def blocks(self, generation, indices, gains):
            assert indices.tolist() == [2]
            return iter(())

    made = source()
    object.__setattr__(made, "directions", Refusing())
    made.weighted_sum(np.arange(4), np.array([0.0, 0.0, 1.0, 0.0]), np.zeros(7))


@pytest.mark.parametrize("common_seeds", ["pair", "generation", "none"])
def test_scenarios_take_turns_and_share_the_seed_of_their_repeat(common_seeds):
    made = Candidates(
        source(num_center=6, repeats=6, scenarios=3, common_seeds=common_seeds),
        np.arange(6 + 12 * PAIRS),
    )
    turns = [0, 1, 2, 0, 1, 2]
    assert made.scenarios.tolist() == turns + [
        t for _ in range(PAIRS) for t in np.repeat(turns, 2)
    ]
    assert made.pairs.tolist() == [-1] * 6 + np.repeat(np.arange(PAIRS), 12).tolist()
    seeds = {}
    for pair, scenario, slot, seed in zip(
        made.pairs.tolist(), made.scenarios.tolist(), range(len(made)), made.seeds.tolist(),
        strict=True,
    ):  # fmt: skip
        again = (slot if pair < 0 else (slot - 6) // 2 % 6) // 3
        group = {"pair": pair, "generation": 0, "none": slot}[common_seeds]
        seeds.setdefault((group, again), set()).add((scenario, seed))
    every = [seed for members in seeds.values() for _, seed in members]
    if common_seeds == "none":
        assert len(set(every)) == len(made)
        return
    for members in seeds.values():
        assert {scenario for scenario, _ in members} == {0, 1, 2}
        assert len({seed for _, seed in members}) == 1
    assert len(set(every)) == len(seeds)
