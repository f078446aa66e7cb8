"""Counter-based streams against NumPy's own Philox and SeedSequence."""

import numpy as np
import pytest

from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.streams import Stream, entropy_of, evaluation_seeds, generator_at
from tests.conformance import ENTROPY

PLACES = [(0, 0), (1, 0), (0, 1), (7, 1 << 40), ((1 << 64) - 1, (1 << 64) - 1)]


@pytest.mark.parametrize(("generation", "index"), PLACES)
@pytest.mark.parametrize("purpose", [1, 6])
def test_a_place_is_a_philox_with_that_counter_and_the_entropy_as_key(generation, index, purpose):
    counter = np.array([0, purpose, index, generation], np.uint64)
    philox = np.random.Philox(key=ENTROPY, counter=counter)
    stream = Stream(ENTROPY, purpose)
    stream.jump(generation, index)
    np.testing.assert_array_equal(stream.raw(9), philox.random_raw(9))


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: g.integers(0, 1 << 32, 3, dtype=np.uint32),  # leaves half a word behind
        lambda g: g.standard_normal(5, dtype=np.float32),
        lambda g: g.bytes(3),
        lambda g: g.random(4),
    ],
)
def test_what_was_drawn_before_a_jump_leaves_no_trace(draw):
    stream = Stream(ENTROPY, 2)
    expected = np.array([draw(Stream(ENTROPY, 2).jump(3, 4)) for _ in range(1)])
    for _ in range(4):
        draw(stream.generator)
        np.testing.assert_array_equal(np.array([draw(stream.jump(3, 4))]), expected)


def test_places_purposes_and_entropies_share_no_words():
    words = [
        tuple(_raw(entropy, purpose, generation, index))
        for entropy in (0, 1, 1 << 64, ENTROPY)
        for purpose in (1, 2)
        for generation in (0, 1, 2)
        for index in (0, 1, 2)
    ]
    every = [word for row in words for word in row]
    assert len(set(every)) == len(every)


def _raw(entropy, purpose, generation, index):
    stream = Stream(entropy, purpose)
    stream.jump(generation, index)
    return stream.raw(8).tolist()


# ---- the entropy of a run


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**200])
def test_an_int_is_hashed_by_numpys_seed_sequence(seed):
    low, high = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    assert entropy_of(seed) == int(low) + (int(high) << 64)
    assert entropy_of(np.random.SeedSequence(seed)) == entropy_of(seed)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64])
def test_ints_of_numpy_are_ints(kind):
    assert entropy_of(kind(17)) == entropy_of(17)


def test_a_seed_sequence_is_not_spawned_from_and_may_serve_twice():
    sequence = np.random.SeedSequence(5)
    assert entropy_of(sequence) == entropy_of(sequence)
    assert sequence.n_children_spawned == 0
    children = sequence.spawn(2)
    assert len({entropy_of(s) for s in (sequence, *children)}) == 3


def test_a_generator_is_advanced_by_two_words():
    first, second, twin = (np.random.default_rng(1) for _ in range(3))
    low, high = (int(twin.integers(0, 1 << 64, dtype=np.uint64)) for _ in range(2))
    assert entropy_of(first) == low + (high << 64)
    assert entropy_of(first) != entropy_of(second)  # the third and fourth word against 1 and 2
    assert first.integers(1 << 60) == np.random.default_rng(1).integers(1 << 60, size=5)[4]


def test_no_seed_gives_other_entropy_each_time():
    assert len({entropy_of(None) for _ in range(20)}) == 20


def test_entropy_fills_128_bits():
    every = [entropy_of(seed) for seed in range(200)]
    assert all(0 <= entropy < 1 << 128 for entropy in every)
    assert len(set(every)) == 200
    for bit in range(128):
        assert 50 < sum(entropy >> bit & 1 for entropy in every) < 150


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, ArgumentValueError), (np.int64(-5), ArgumentValueError), (True, ArgumentTypeError),
        (np.True_, ArgumentTypeError), (1.0, ArgumentTypeError), ("1", ArgumentTypeError),
        ([1], ArgumentTypeError), (np.random.RandomState(1), ArgumentTypeError),
    ],
)  # fmt: skip
def test_what_is_no_seed_is_refused(seed, error):
    with pytest.raises(error, match="^seed: expected"):
        entropy_of(seed)


# ---- seeds of evaluations


def test_evaluation_seeds_are_those_of_the_documented_spawn_key():
    index, repeat = np.array([0, 3, 3, 1 << 31]), np.array([0, 1, 0, 2])
    expected = [
        np.random.SeedSequence(ENTROPY, spawn_key=(9, i, r)).generate_state(1)[0]
        for i, r in zip(index.tolist(), repeat.tolist(), strict=True)
    ]
    seeds = evaluation_seeds(ENTROPY, 9, index, repeat)
    assert seeds.tolist() == expected
    assert seeds.dtype == np.int64
    assert ((seeds >= 0) & (seeds < 1 << 32)).all()


def test_evaluation_seeds_differ_by_generation_group_and_repeat_and_not_by_order():
    index, repeat = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    seeds = [evaluation_seeds(ENTROPY, g, index, repeat) for g in range(3)]
    assert len(np.unique(np.concatenate(seeds))) == 300
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(
        evaluation_seeds(ENTROPY, 0, index[order], repeat[order]), seeds[0][order]
    )


def test_no_evaluations_have_no_seeds():
    empty = np.empty(0, np.int64)
    assert evaluation_seeds(ENTROPY, 0, empty, empty).shape == (0,)


@pytest.mark.parametrize("place", [(0, 0, 0), (6, 3, 4), (1, (1 << 64) - 1, 1 << 40)])
def test_a_generator_for_one_place_gives_what_a_jump_there_gives(place):
    purpose, generation, index = place
    jumped = Stream(ENTROPY, purpose).jump(generation, index)
    made = generator_at(ENTROPY, purpose, generation, index)
    assert made.bytes(100) == jumped.bytes(100)
    np.testing.assert_array_equal(made.standard_normal(9), jumped.standard_normal(9))
