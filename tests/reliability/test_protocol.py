"""R4: any order and any cut of the tells gives the same bits; misuse is refused as a whole."""

from __future__ import annotations

import functools
import pickle
import random

import numpy as np
import pytest

from bgs_opt import BGS, SGD, Options, TellReport
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DuplicateTellError,
    NonFiniteValueWarning,
    StaleCandidateError,
    UnknownCandidateError,
)
from bgs_opt.update import LATE_WINDOW
from tests.helpers import fingerprint, pickled, play, refused, sphere

SETTINGS = {
    "plain": {},
    "repeats": {"options": Options(repeats=3)},
    "baseline": {"options": Options(center_evaluations=2, acceptance=0.5, averaging=0.9)},
    "bounds": {"bounds": ([-0.45, 0.0, 0.1, -2, 0.8], 0.95), "optimizer": "adam"},
    "hadamard": {"sampler": "hadamard", "optimizer": SGD(0.5), "selection": "max"},
    "start": {"options": Options(start_evaluations=3, repeats=2, reward_scale="rank")},
    "auto": {"optimizer": "auto", "num_directions": None, "budget": 400},
    "auto, many repeats": {"optimizer": "auto", "num_directions": None,
                           "options": Options(repeats=2, noisy=True)},
}  # fmt: skip
GENERATIONS = 8


def make(name):
    settings = {"num_directions": 6, "seed": 11, **SETTINGS[name]}
    return BGS([0.9, 0.4, 0.2, -0.7, 0.85], 0.1, **settings)


def measure(candidates):
    """A noisy objective with ties: rounded, with noise that follows from seed and id."""
    noise = candidates.seeds % 7 * 0.01 + candidates.ids * 7919 % 13 * 0.1
    return np.array([round(sphere(x), 1) for x in candidates]) + noise


@functools.cache
def reference(name):
    """The run that tells every generation in one call and in the order of the ids."""
    opt = make(name)
    while opt.generation < GENERATIONS:
        candidates = opt.ask()
        opt.tell(candidates, measure(candidates))
    return fingerprint(opt)


@pytest.mark.parametrize("seed", range(104))
def test_permuted_tells_give_the_same_bits(seed):
    name = list(SETTINGS)[seed % len(SETTINGS)]
    opt, shuffle = make(name), np.random.default_rng(seed)
    while opt.generation < GENERATIONS:
        candidates = opt.ask()
        order = shuffle.permutation(len(candidates))
        report = opt.tell(candidates[order], measure(candidates)[order])
        assert report == TellReport(len(candidates), 0, 0, True)
    assert fingerprint(opt) == reference(name)


@pytest.mark.parametrize("seed", range(56))
def test_tells_in_pieces_give_the_same_bits(seed):
    name = list(SETTINGS)[seed % len(SETTINGS)]
    opt, choose = make(name), np.random.default_rng([seed, 1])
    while opt.generation < GENERATIONS:
        number = opt.generation
        handed_out = []
        while part := opt.ask(None if handed_out else 1):  # one, then the rest
            handed_out.append(part)
        ids = np.concatenate([c.ids for c in handed_out])
        values = np.concatenate([measure(c) for c in handed_out])
        order = choose.permutation(len(ids))
        center = opt.center
        cuts = np.sort(choose.choice(len(ids) + 1, size=min(4, len(ids)), replace=False))
        pieces = np.split(order, cuts)
        told = 0
        for piece in pieces:
            if told < len(ids):
                assert opt.center.base is center.base
                assert opt.generation == number
            report = opt.tell(ids[piece], values[piece])
            told += len(piece)
            assert report.accepted == len(piece)
            assert report.updated == (told == len(ids) and len(piece) > 0)
    assert fingerprint(opt) == reference(name)


def test_the_reference_runs_differ_and_move():
    """What the two tests above compare with is not a standstill."""
    ends = {name: reference(name) for name in SETTINGS}
    centers = {state["center"] for state in ends.values()}
    assert len(centers) == len(SETTINGS)
    assert make("plain").center.tobytes() not in {center[2] for center in centers}


def test_values_tied_for_best_give_the_lowest_id_in_any_order():
    points = set()
    for seed in range(20):
        opt = BGS([0.0, 0.0], 0.1, num_directions=5, seed=3)
        candidates = opt.ask()
        order = np.random.default_rng(seed).permutation(10)
        values = np.array([3.0, 2.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 1.0])
        for place in order.tolist():
            opt.tell(candidates.ids[place], [values[place]])
        points.add(opt.best.x.tobytes())
    assert points == {candidates.x[2].tobytes()}


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_best_has_the_value_that_was_told_for_its_point(first):
    """0.0 and -0.0 tie: the lowest id wins, and the sign belongs to its own point."""
    opt = BGS([0.0, 0.0], 0.1, num_directions=5, seed=3)
    values = np.array([first, -first] * 5)
    opt.tell(candidates := opt.ask(), values)
    assert np.signbit(opt.best.value) == np.signbit(first)
    np.testing.assert_array_equal(opt.best.x, candidates.x[0])


# ---- misuse


@pytest.fixture
def opt():
    """Three pairs, so six candidates a generation."""
    return BGS([1.0, 2.0], 0.1, num_directions=3, seed=7)


@pytest.mark.parametrize("value", [1.5, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("closed", [False, True])
def test_the_same_value_again_is_a_no_op(opt, value, closed):
    candidates = opt.ask()
    values = [value, 1.0, 2.0, 3.0, 4.0, 5.0]
    told = 6 if closed else 2
    if value == 1.5:
        opt.tell(candidates[:told], values[:told])
    else:
        with pytest.warns(NonFiniteValueWarning):
            opt.tell(candidates[:told], values[:told])
    before = pickled(opt)
    assert opt.tell(candidates[:told], values[:told]) == TellReport(0, 0, told, False)
    assert opt.tell(candidates.ids[0], [value]) == TellReport(0, 0, 1, False)
    assert pickled(opt) == before


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("other", [1.5000000001, float("nan"), float("inf"), -1.5])
def test_another_value_for_a_known_candidate_is_refused(opt, other, closed):
    candidates = opt.ask()
    told = 6 if closed else 1
    opt.tell(candidates[:told], [1.5, 1, 2, 3, 4, 5][:told])
    name = int(candidates.ids[0])
    with refused(opt, DuplicateTellError, ValueError, match=rf"id {name} has the value .*1\.5.*"):
        opt.tell(candidates[:1], [other])


@pytest.mark.parametrize(
    "foreign", [6, 7, 1 << 31, (1 << 32) - 1, 1 << 32, 5 << 32, -1, -(1 << 40), (1 << 63) - 1]
)
@pytest.mark.parametrize("call", ["tell", "discard"])
def test_an_id_that_was_never_asked_is_refused(opt, call, foreign):
    opt.ask()
    with refused(opt, UnknownCandidateError, LookupError, match=f"id {foreign} was never asked"):
        opt.tell([foreign], [1.0]) if call == "tell" else opt.discard([foreign])


@pytest.mark.parametrize("call", ["tell", "discard"])
def test_candidates_of_another_run_are_refused(opt, call):
    other = BGS([1.0, 2.0], 0.1, num_directions=3, seed=8)
    mine, foreign = opt.ask(), other.ask()
    np.testing.assert_array_equal(mine.ids, foreign.ids)  # only the points tell them apart
    with refused(opt, UnknownCandidateError, LookupError):
        opt.tell(foreign, np.ones(6)) if call == "tell" else opt.discard(foreign)


def test_candidates_come_back_from_a_copy_or_through_pickle(opt):
    candidates = opt.ask()
    again = pickle.loads(pickle.dumps(opt))
    travelled = pickle.loads(pickle.dumps(candidates))
    np.testing.assert_array_equal(travelled.x, candidates.x)
    for run in (opt, again):
        assert run.tell(travelled, np.arange(6.0)).updated
    assert fingerprint(opt) == fingerprint(again)


def test_an_id_of_a_generation_beyond_the_window_is_refused_as_stale(opt):
    candidates = opt.ask(8)
    opt.tell(candidates[:6], np.arange(6.0))
    play(opt, LATE_WINDOW - 1)
    assert opt.tell(candidates[6:7], [1.0]) == TellReport(1, 1, 0, False)
    play(opt, 1)
    for call in (lambda: opt.tell(candidates[7:], [1.0]), lambda: opt.discard(candidates[7:])):
        with refused(opt, StaleCandidateError, UnknownCandidateError, LookupError) as error:
            call()
        assert "generation 0, which closed too long ago" in str(error.value)


@pytest.mark.parametrize("call", ["tell", "discard"])
def test_nothing_can_be_told_before_it_was_asked(opt, call):
    with refused(opt, UnknownCandidateError, match="id 0 was never asked"):
        opt.tell([0], [1.0]) if call == "tell" else opt.discard([0])


@pytest.mark.parametrize("nothing", [[], (), np.empty(0), np.empty(0, np.int64), "slice"])
def test_telling_nothing_changes_nothing(opt, nothing):
    candidates = opt.ask()
    nothing = candidates[:0] if isinstance(nothing, str) else nothing
    before = pickled(opt)
    assert opt.tell(nothing, []) == TellReport(0, 0, 0, False)
    assert opt.discard(nothing) == TellReport(0, 0, 0, False)
    assert pickled(opt) == before


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("kind", ["unknown", "next generation", "stale", "other value"])
def test_one_bad_id_among_good_ones_refuses_them_all(opt, kind, place):
    play(opt, LATE_WINDOW + 1)
    candidates = opt.ask()
    opt.tell(candidates[5:], [2.0])
    bad, error = {
        "unknown": (int(candidates.ids[-1]) + 1, UnknownCandidateError),
        "next generation": ((opt.generation + 1) << 32, UnknownCandidateError),
        "stale": (0, StaleCandidateError),
        "other value": (int(candidates.ids[5]), DuplicateTellError),
    }[kind]
    ids = np.insert(candidates.ids, place, bad)
    values = np.insert([1.0] * 5 + [2.0], place, 3.0)
    with refused(opt, error):
        opt.tell(ids, values)
    if kind != "other value":
        with refused(opt, error):
            opt.discard(ids)


def test_a_bad_id_of_an_old_generation_refuses_those_of_the_open_one(opt):
    old = opt.ask(8)
    opt.tell(old[:6], np.arange(6.0))
    new = opt.ask()
    with refused(opt, UnknownCandidateError):
        opt.tell([*new.ids, old.ids[7], old.ids[7] + 1], np.arange(8.0))
    with refused(opt, DuplicateTellError):
        opt.tell([*new.ids, old.ids[7], old.ids[0]], np.arange(8.0))


def test_duplicates_within_one_call_count_once_if_they_agree(opt):
    candidates = opt.ask()
    places = [0, 1, 0, 2, 0]
    report = opt.tell(candidates[places], [1.0, 2.0, 1.0, 3.0, 1.0])
    assert report == TellReport(3, 0, 2, False)
    assert opt.num_evaluations == 3
    assert opt.discard(candidates[[3, 3, 4]]) == TellReport(2, 0, 1, False)
    assert opt.counts["discarded"] == 2


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, np.nan], [np.nan, 2, 1], [1, 2, -1]])
def test_duplicates_within_one_call_that_differ_refuse_the_call(opt, values):
    candidates = opt.ask()
    with refused(opt, DuplicateTellError, match=f"id {candidates.ids[0]} has the value"):
        opt.tell(candidates[[0, 1, 0]], np.array(values, float))


@pytest.mark.parametrize(
    ("candidates", "error"),
    [
        (None, ArgumentTypeError), ("abc", ArgumentTypeError), (0.0, ArgumentTypeError),
        ([0.0], ArgumentTypeError), (True, ArgumentTypeError), ([True], ArgumentTypeError),
        ([[0]], ArgumentValueError), ([[0], [1, 2]], ArgumentTypeError),
        ({0: 1}, ArgumentTypeError), ([None], ArgumentTypeError), (1j, ArgumentTypeError),
        ([10**30], ArgumentTypeError), ([10**5000], ArgumentTypeError), (["0"], ArgumentTypeError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)  # fmt: skip
@pytest.mark.parametrize("call", ["tell", "discard"])
def test_what_is_not_an_id_is_refused(opt, call, candidates, error):
    opt.ask()
    with refused(opt, error, match=r"^candidates: expected Candidates or a 1-D array.*; got "):
        opt.tell(candidates, [1.0]) if call == "tell" else opt.discard(candidates)


# ---- discard


def test_discarding_twice_counts_once(opt):
    candidates = opt.ask()
    assert opt.discard(candidates[:2]) == TellReport(2, 0, 0, False)
    before = pickled(opt)
    assert opt.discard(candidates[:2]) == TellReport(0, 0, 2, False)
    assert pickled(opt) == before
    assert opt.counts["discarded"] == 2


def test_discarding_what_was_told_changes_nothing(opt):
    candidates = opt.ask()
    opt.tell(candidates[:2], [1.0, 2.0])
    before = pickled(opt)
    assert opt.discard(candidates[:2]) == TellReport(0, 0, 2, False)
    assert pickled(opt) == before


def test_a_discarded_candidate_told_after_all_may_be_best_and_its_pair_stays_dropped(opt):
    again = pickle.loads(pickle.dumps(opt))
    candidates, values = opt.ask(), np.array([-9.0, 1, 5, 2, 8, 3])
    again.ask()
    for run in (opt, again):
        run.discard(candidates[:1])
    assert opt.tell(candidates[:1], values[:1]) == TellReport(1, 0, 0, False)
    assert opt.best.value == -9.0
    np.testing.assert_array_equal(opt.best.x, candidates.x[0])
    assert opt.tell(candidates[:1], values[:1]) == TellReport(0, 0, 1, False)
    assert opt.discard(candidates[:1]) == TellReport(0, 0, 1, False)
    with refused(opt, DuplicateTellError):
        opt.tell(candidates[:1], [-8.0])
    for run in (opt, again):
        assert run.tell(candidates[1:], values[1:]).updated
    assert fingerprint(opt)["center"] == fingerprint(again)["center"]
    assert opt.num_evaluations == 6
    assert opt.counts["discarded"] == 1


@pytest.mark.parametrize("lost_first", [False, True])
def test_a_late_value_of_a_discarded_candidate_may_be_best_in_any_order(opt, lost_first):
    candidates = opt.ask(8)
    opt.tell(candidates[:6], np.arange(6.0))
    opt.discard(candidates[6:7])
    late = [(candidates[6:7], [-9.0]), (candidates[7:], [-1.0])]
    for which, value in late if lost_first else late[::-1]:
        assert opt.tell(which, value) == TellReport(1, 1, 0, False)
    assert opt.best.value == -9.0
    np.testing.assert_array_equal(opt.best.x, candidates.x[6])


@pytest.mark.parametrize("settings", [{}, {"center_evaluations": 1}, {"repeats": 2}])
def test_a_generation_can_always_be_closed_by_discarding(settings):
    opt = BGS([1.0, 2.0], 0.1, num_directions=3, seed=7, options=Options(**settings))
    with pytest.warns(UserWarning, match="0 usable pairs of 3"):
        assert opt.discard(opt.ask()).updated
    np.testing.assert_array_equal(opt.center, [1.0, 2.0])
    assert opt.generation == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_repeat_drops_its_pair(lost):
    """discard: each drops its pair; the means of the two ends keep their common seeds."""

    def run(slots):
        opt = BGS([1.0, 2.0], 0.1, num_directions=4, seed=7, options=Options(repeats=2))
        candidates = opt.ask()
        values = np.array([sphere(x) for x in candidates]) + candidates.seeds % 10
        gone = np.isin(np.arange(16), slots)
        opt.discard(candidates[gone])
        opt.tell(candidates[~gone], values[~gone])
        return opt.center.tobytes()

    assert run(range(4, 4 + lost)) == run(range(4, 8))


# ---- late


def test_late_values_are_accepted_and_may_become_best_and_update_nothing(opt):
    candidates = opt.ask(10)
    opt.tell(candidates[:6], np.arange(6.0))
    center, generation = opt.center, opt.generation
    assert opt.tell(candidates[7:9], [-2.0, 5.0]) == TellReport(2, 2, 0, False)
    assert opt.best.value == -2.0
    np.testing.assert_array_equal(opt.best.x, candidates.x[7])
    assert opt.discard(candidates[9:]) == TellReport(1, 1, 0, False)
    assert opt.center.base is center.base
    assert opt.generation == generation
    assert opt.counts == {
        "evaluations": 8, "late": 2, "failed": 0, "discarded": 1, "skipped": 0
    }  # fmt: skip


def dense_step(pairs, top_k, learning_rate):
    """Steps 3 to 5 of the method, written out, for a minimised objective and plain steps."""
    kept = sorted(pairs, key=lambda pair: -abs(pair[1] - pair[2]))[:top_k]
    rewards = [-value for _, plus, minus in kept for value in (plus, minus)]
    gradient = sum((minus - plus) * e for e, plus, minus in kept) / (top_k * np.std(rewards))
    return learning_rate * gradient


def as_pairs(candidates, center, sigma, values):
    """(e_i, value+, value-) of each pair, the directions from the points alone."""
    e = (candidates.x[::2] - candidates.x[1::2]) / (2 * sigma)
    np.testing.assert_allclose(candidates.x[::2] - center, sigma * e, atol=1e-12)
    return list(zip(e, values[::2], values[1::2], strict=True))


@pytest.mark.parametrize("late", ["ignore", "use"])
def test_late_pairs_join_the_next_update_only_where_asked_for(late):
    opt = BGS([1.0, 2.0, -1.0], 0.1, num_directions=3, top_k=3, sampler="gaussian", seed=7,
              optimizer="sgd", learning_rate=0.05, options=Options(late=late))  # fmt: skip
    first = opt.ask(10)
    values = np.array([4.0, 1.0, 2.0, 2.5, 0.0, 6.0, 7.0, 1.0, 2.0, 9.0])
    old = as_pairs(first, opt.center, 0.1, values)
    start = opt.center
    opt.tell(first[:6], values[:6])
    np.testing.assert_allclose(opt.center - start, dense_step(old[:3], 3, 0.05), rtol=1e-10)

    opt.tell(first[6:9], values[6:9])  # a whole late pair, and half of one
    second = opt.ask()
    start, new = opt.center, as_pairs(second, opt.center, 0.1, values[2:8])
    opt.tell(second, values[2:8])
    used = [old[3], *new] if late == "use" else new
    np.testing.assert_allclose(opt.center - start, dense_step(used, 3, 0.05), rtol=1e-10)

    opt.tell(first[9:], values[9:])  # the other half: its pair was never used
    third = opt.ask()
    start, new = opt.center, as_pairs(third, opt.center, 0.1, values[:6])
    opt.tell(third, values[:6])
    used = [old[4], *new] if late == "use" else new
    np.testing.assert_allclose(opt.center - start, dense_step(used, 3, 0.05), rtol=1e-10)


# ---- growth, slices, ids


def test_a_grown_generation_uses_the_pairs_complete_at_its_end_in_any_order():
    values = np.arange(16.0)[::-1] ** 1.5
    centers = set()
    for seed in range(10):
        opt = BGS([1.0, 2.0, -1.0], 0.1, num_directions=3, top_k=3, sampler="gaussian", seed=7,
                  optimizer="sgd", learning_rate=0.05)  # fmt: skip
        candidates = opt.ask(16)
        assert len(candidates) == 16
        assert len(np.unique(candidates.ids)) == 16
        pairs = as_pairs(candidates, opt.center, 0.1, values)
        start = opt.center
        first = [2, 3, 8, 9, 14, 5, 7]  # pairs 1 and 4, halves of 7, 2 and 3
        random.Random(seed).shuffle(first)
        for slot in first:
            assert not opt.tell(candidates[[slot]], values[[slot]]).updated
        assert opt.tell(candidates[[15]], values[[15]]).updated
        expected = dense_step([pairs[1], pairs[4], pairs[7]], 3, 0.05)
        np.testing.assert_allclose(opt.center - start, expected, rtol=1e-10)
        centers.add(opt.center.tobytes())
    assert len(centers) == 1


def test_growing_a_generation_keeps_its_center_and_its_first_points(opt):
    plain = BGS([1.0, 2.0], 0.1, num_directions=3, seed=7).ask()
    pieces = [opt.ask(n) for n in (1, 2, 7, 3)]
    ids = np.concatenate([piece.ids for piece in pieces])
    np.testing.assert_array_equal(ids, np.arange(13))
    points = np.concatenate([piece.x for piece in pieces])
    np.testing.assert_array_equal(points[:6], plain.x)
    assert len(np.unique(points, axis=0)) == 13
    np.testing.assert_allclose((points[0:12:2] + points[1:12:2]) / 2, [[1.0, 2.0]] * 6)
    assert len(opt.ask()) == 0
    np.testing.assert_array_equal(opt.pending.ids, ids)


SUBSETS = {
    "slice": lambda c: c[1:5],
    "step": lambda c: c[::-2],
    "mask": lambda c: c[np.array([True, False, True, True, False, False])],
    "list of bool": lambda c: c[[True, False, True, True, False, False]],
    "places": lambda c: c[[4, 0]],
    "negative places": lambda c: c[np.array([-1, -6])],
    "slice of a mask": lambda c: c[np.arange(6) % 2 == 0][1:],
    "nothing": lambda c: c[[]],
}


@pytest.mark.parametrize("kind", SUBSETS)
def test_a_part_of_candidates_is_candidates_with_the_same_rows(opt, kind):
    candidates = opt.ask()
    rows = dict(zip(candidates.ids.tolist(), candidates.x, strict=True))
    part = SUBSETS[kind](candidates)
    assert type(part) is type(candidates)
    assert len(part) == len(part.ids) == len(part.seeds) == len(part.x) == len(list(part))
    for i, name in enumerate(part.ids.tolist()):
        for row in (part[i], part.x[i], list(part)[i]):
            np.testing.assert_array_equal(row, rows[name])
    assert opt.tell(part, np.arange(len(part))) == TellReport(len(part), 0, 0, False)
    assert set(opt.pending.ids) == set(rows) - set(part.ids.tolist())


IDS = {
    "Candidates": lambda c: c,
    "array": lambda c: c.ids,
    "list": lambda c: c.ids.tolist(),
    "tuple": lambda c: tuple(c.ids.tolist()),
    "list of numpy ints": lambda c: list(c.ids),
    "int32": lambda c: c.ids.astype(np.int32),
    "uint64": lambda c: c.ids.astype(np.uint64),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_serve_instead_of_candidates(opt, kind):
    again = pickle.loads(pickle.dumps(opt))
    candidates = opt.ask()
    again.ask()
    assert opt.tell(IDS[kind](candidates[:3]), [3.0, 1.0, 2.0]).accepted == 3
    assert opt.discard(IDS[kind](candidates[3:4])).accepted == 1
    assert opt.tell(IDS[kind](candidates[4:]), [3.0, 1.0]).updated
    again.discard(candidates[3:4])
    again.tell(candidates[[0, 1, 2, 4, 5]], [3.0, 1.0, 2.0, 3.0, 1.0])
    assert fingerprint(opt) == fingerprint(again)


@pytest.mark.parametrize("name", [0, np.int64(0), np.uint8(0)], ids=lambda n: type(n).__name__)
def test_one_id_and_one_number_serve_for_one_candidate(opt, name):
    opt.ask()
    assert opt.tell(name, 2.0).accepted == 1
    assert opt.best.value == 2.0


def test_uint64_ids_do_not_wrap_into_known_ones(opt):
    opt.ask()
    with refused(opt, UnknownCandidateError):
        opt.tell(np.array([2**64 - 6], np.uint64), [1.0])
