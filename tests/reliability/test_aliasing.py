"""R11: no array of the caller is kept, and none that is handed out leads back into the run."""

from __future__ import annotations

import contextlib
import copy
import pickle

import numpy as np
import pytest
import scipy.optimize

from bgs_opt import BGS, Options
from tests.helpers import fingerprint, play, sphere

SAMPLERS = ["qr", "hadamard", "gaussian", "gaussian_table", "rademacher", "factorised"]


def inputs():
    """Every input that may be an array, by name."""
    return {
        "x0": np.array([0.5, -0.25, 1.0, 2.0]),
        "low": np.full(4, -3.0),
        "high": np.array([3.0, 2.0, 4.0, 5.0]),
        "scale": np.array([1.0, 2.0, 0.5, 1.5]),
        "ids": np.array([5, 0, 3, 1]),
        "values": np.array([3.0, 1.0, 4.0, 1.5]),
        "lost": np.array([2, 4]),
        "index": np.array([3, 0, 1]),
        "mask": np.array([True, False, True, False, True, True]),
    }


def run(given, spoil=None):
    """Use every input once; the one named ``spoil`` is overwritten as soon as its call is over."""

    def over(*names):
        if spoil in names:
            given[spoil][...] = 1 if given[spoil].dtype.kind in "bi" else 0.625

    opt = BGS(
        given["x0"], 0.1, num_directions=3, seed=3, bounds=(given["low"], given["high"]),
        options=Options(scale=given["scale"], averaging=0.9),
    )  # fmt: skip
    over("x0", "low", "high", "scale")
    opt.ask()
    opt.tell(given["ids"], given["values"])
    over("ids", "values")
    opt.discard(given["lost"])
    over("lost")
    candidates = opt.ask()
    chosen, masked = candidates[given["index"]], candidates[given["mask"]]
    over("index", "mask")
    opt.tell(chosen, [sphere(x) for x in chosen])
    opt.tell(masked, [sphere(x) for x in masked])
    return play(opt, 3)


@pytest.mark.parametrize("name", inputs())
def test_an_input_overwritten_after_the_call_changes_nothing(name, tmp_path):
    spoiled = run(given := inputs(), spoil=name)
    assert not np.array_equal(given[name], inputs()[name])
    assert fingerprint(spoiled) == fingerprint(run(inputs()))
    spoiled.save(tmp_path / "run.npz")
    loaded = BGS.load(tmp_path / "run.npz")
    assert fingerprint(play(loaded, 2)) == fingerprint(play(run(inputs()), 2))


@pytest.mark.parametrize("name", inputs())
def test_no_call_writes_into_an_input(name):
    run(given := inputs())
    assert given[name].tobytes() == inputs()[name].tobytes()
    assert given[name].flags.writeable


@pytest.mark.parametrize("kind", ["memmap", "locked"])
@pytest.mark.parametrize("name", inputs())
def test_a_read_only_input_is_as_good_as_any(name, kind, tmp_path):
    given = inputs()
    if kind == "memmap":
        path = tmp_path / "input"
        given[name].tofile(path)
        given[name] = np.memmap(path, given[name].dtype, "r")
    given[name].flags.writeable = False
    assert fingerprint(run(given)) == fingerprint(run(inputs()))


@pytest.mark.parametrize("name", ["Bounds", "layout", "scale by block"])
def test_containers_changed_after_the_call_change_nothing(name):
    bounds = scipy.optimize.Bounds(np.zeros(4), np.full(4, 3.0))
    layout, scale = {"a": [2, 1], "b": (2,)}, {"a": 1.0, "b": 2.0}

    def make():
        return BGS([0.5, 1.0, 1.5, 2.0], 0.1, seed=1, sampler="factorised", bounds=bounds,
                   layout=layout, options=Options(scale=scale))  # fmt: skip

    expected, opt = fingerprint(play(make(), 3)), make()
    bounds.lb[...] = 1.75
    layout["a"][0] = 7
    layout["c"] = (1,)
    scale["a"] = 100.0
    assert fingerprint(play(opt, 3)) == expected


def test_a_seed_sequence_is_only_read():
    sequence = np.random.SeedSequence(5)
    play(BGS([1.0, 2.0], 0.1, seed=sequence), 2)
    assert sequence.n_children_spawned == 0
    children = [s.generate_state(1) for s in (sequence, np.random.SeedSequence(5))]
    assert children[0] == children[1]


# ---- outputs

FROZEN = {
    "center": lambda opt, c: opt.center,
    "best": lambda opt, c: opt.best.x,
    "average": lambda opt, c: opt.average,
    "recommendation": lambda opt, c: opt.recommendation,
    "x": lambda opt, c: c.x,
    "row of x": lambda opt, c: c.x[0],
    "item": lambda opt, c: c[1],
    "iterated row": lambda opt, c: next(iter(c)),
    "row of a slice": lambda opt, c: c[2:4].x[0],
    "pending": lambda opt, c: opt.pending.x,
}
LOOSE = {
    "ids": lambda opt, c: c.ids,
    "seeds": lambda opt, c: c.seeds,
    "signs": lambda opt, c: c.signs,
    "ids of a slice": lambda opt, c: c[1:].ids,
    "pending ids": lambda opt, c: opt.pending.ids,
    "history": lambda opt, c: opt.history["sigma"],
    "ids of a block": lambda opt, c: next(c.blocks(4))[0],
    "x of a block": lambda opt, c: next(c.blocks(4))[1],
}


def copies(tmp_path, settings):
    """The same run four times: as made, and by every way of keeping it."""
    opt = play(BGS([0.5, -0.25, 1.0, 2.0], 0.1, seed=3, num_directions=3, **settings), 4)
    opt.save(tmp_path / "run.npz")
    return {
        "made": opt,
        "loaded": BGS.load(tmp_path / "run.npz"),
        "pickled": pickle.loads(pickle.dumps(opt)),
        "deep copy": copy.deepcopy(opt),
    }


SETTINGS = {
    "plain": {},
    "average": {"options": Options(averaging=0.5)},
    "noise free": {"options": Options(noisy=False)},
    "before": None,
}


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", ["made", "loaded", "pickled", "deep copy"])
def test_a_point_that_is_handed_out_is_read_only(way, settings, name, tmp_path):
    if settings == "before":
        opt = BGS([0.5, -0.25, 1.0, 2.0], 0.1, seed=3, num_directions=3)
        opt = opt if way == "made" else pickle.loads(pickle.dumps(opt))
    else:
        opt = copies(tmp_path, SETTINGS[settings])[way]
    array = FROZEN[name](opt, opt.ask())
    before = fingerprint(opt)
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 7.0
    with pytest.raises(ValueError, match="read-only"):
        array += 1.0
    with contextlib.suppress(ValueError):  # of a copy it is allowed
        array.setflags(write=True)
        array[...] = 7.0
    assert fingerprint(opt) == before


@pytest.mark.parametrize("name", LOOSE)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_arrays_that_are_handed_out_are_copies(name, sampler):
    def make():
        return play(BGS([0.5, -0.25, 1.0, 2.0], 0.1, seed=3, num_directions=3, sampler=sampler,
                        layout={"a": (2, 2)}), 2)  # fmt: skip

    opt, untouched = make(), make()
    candidates = opt.ask()
    untouched.ask()
    ids, seeds, points = candidates.ids, candidates.seeds, candidates.x
    LOOSE[name](opt, candidates)[...] = 0
    np.testing.assert_array_equal(candidates.ids, ids)
    np.testing.assert_array_equal(candidates.seeds, seeds)
    np.testing.assert_array_equal(candidates.x, points)
    np.testing.assert_array_equal(opt.pending.ids, ids)
    for run in (opt, untouched):
        run.tell(ids, [sphere(x) for x in points])
    assert fingerprint(play(opt, 2)) == fingerprint(play(untouched, 2))


def test_a_dictionary_that_is_handed_out_is_a_copy():
    opt = play(BGS([1.0, 2.0], 0.1, seed=3), 2)
    before = fingerprint(opt)
    opt.counts["evaluations"] = 99
    opt.history["sigma"][:] = 99
    opt.stop()["budget"] = 1
    assert opt.counts["evaluations"] == opt.num_evaluations
    assert opt.stop() == {}
    assert fingerprint(opt) == before


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_writing_into_a_block_does_not_reach_the_next_one(sampler, rows):
    opt = BGS(np.ones(4), 0.1, seed=3, num_directions=5, sampler=sampler, bounds=(0.9, 1.1),
              layout={"a": (2, 2)}, options=Options(center_evaluations=1, scale=2.0))  # fmt: skip
    candidates = opt.ask()
    expected, seen = candidates.x, []
    for ids, x in candidates.blocks(rows):
        seen.append((ids, x.copy()))
        x[...] = np.nan
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in seen]), candidates.ids)
    np.testing.assert_array_equal(np.concatenate([x for _, x in seen]), expected)
    assert opt.center.tobytes() == np.ones(4).tobytes()


@pytest.mark.parametrize(
    "optimizer", ["clipup", "adam", "sgd", "auto"], ids=lambda name: f"optimizer={name}"
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_earlier_candidates_and_centers_keep_their_numbers(sampler, optimizer):
    opt = BGS(
        [0.5, -0.25, 1.0, 2.0], 0.1, seed=3, sampler=sampler, optimizer=optimizer,
        layout={"a": (2, 2)}, bounds=(-3, 3), options=Options(weight_decay=0.01),
    )  # fmt: skip
    kept = []
    for _ in range(12):
        candidates = opt.ask()
        opt.tell(candidates, [sphere(x) for x in candidates])
        kept.append((candidates, candidates.x.copy(), candidates.ids))
        kept.append((opt.center, opt.center.copy(), None))
        kept.append((opt.best.x, opt.best.x.copy(), None))
        kept.append((opt.average, opt.average.copy(), None))
    for thing, numbers, ids in kept:
        if ids is None:
            np.testing.assert_array_equal(thing, numbers)
        else:
            np.testing.assert_array_equal(thing.x, numbers)
            np.testing.assert_array_equal(thing.ids, ids)
    assert not np.array_equal(kept[0][1][0], kept[-4][1][0])  # and the run did move


@pytest.mark.parametrize("way", ["pickled", "deep copy"])
def test_a_copy_and_its_original_go_their_own_ways(way, tmp_path):
    runs = copies(tmp_path, {"optimizer": "adam", "options": Options(averaging=0.5)})
    opt, other = runs["made"], runs[way]
    for _ in range(3):
        candidates, ahead = opt.ask(), other.pending
        values = [sphere(x) for x in candidates]
        before = fingerprint(other)
        opt.tell(candidates[:3], values[:3])
        opt.tell(candidates[3:], values[3:])
        play(opt, 1)
        assert fingerprint(other) == before
        before = fingerprint(opt)
        assert len(ahead) == 0
        play(other, 2, lambda x: -sphere(x))
        assert fingerprint(opt) == before


class Keeps:
    """A rule of the caller's own whose step is the array that it keeps in its state."""

    def init(self, center):
        return {"velocity": np.zeros_like(center)}

    def step(self, gradient, state, learning_rate):
        state["velocity"] *= 0.5
        state["velocity"] += learning_rate * gradient
        return state["velocity"], state

    def default_learning_rate(self, sigma, dim):
        return sigma


class Copies(Keeps):
    """The same rule with a step of its own memory."""

    def step(self, gradient, state, learning_rate):
        delta, state = super().step(gradient, state, learning_rate)
        return delta.copy(), state


@pytest.mark.parametrize("options", [Options(), Options(weight_decay=0.1), Options(scale=2.0)],
                         ids=["plain", "weight decay", "scale"])  # fmt: skip
def test_a_step_that_the_optimizer_keeps_is_not_written_into(options):
    runs = [
        play(BGS([0.5, -0.25], 0.1, seed=3, optimizer=rule, options=options), 6)
        for rule in (Keeps(), Copies())
    ]
    assert fingerprint(runs[0]) == fingerprint(runs[1])
