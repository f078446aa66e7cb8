"""R3: NaN, infinities, huge numbers and wrong types as values of the objective.

A generation has 4 pairs of 2 repeats, so 16 slots: slot = 4 pair + 2 repeat + end. Two of four
generations get bad values; what the documents promise for them is compared, bit for bit, with a
run that is told the promised thing in plain words.
"""

from __future__ import annotations

import decimal
import math
import warnings

import numpy as np
import pytest

from bgs_opt import BGS, Options
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    NonFiniteValueError,
    NonFiniteValueWarning,
    SearchStalledError,
    SkippedUpdateWarning,
)
from tests.helpers import fingerprint, pickled, refused, sphere

PLACES = {
    "one": [5],
    "half a pair": [5, 7],
    "a whole pair": [8, 9, 10, 11],
    "all": list(range(16)),
    "first": [0],
    "last": [15],
}
BAD = [math.nan, math.inf, -math.inf, 1e308, -1e308]
BAD_GENERATIONS = (1, 2)


def drive(tell, *, sign=1, **options):
    """Four generations of which two are told by ``tell(opt, candidates, clean values)``.

    Returns the run and the warnings it gave; ``sign`` -1 maximises the negated objective.
    """
    opt = BGS(
        [0.9, -0.4, 0.2], 0.1, num_directions=4, top_k=3, seed=5, maximize=sign < 0,
        options=Options(repeats=2, **options),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for generation in range(4):
            candidates = opt.ask()
            clean = np.array([sphere(x) for x in candidates])
            if generation in BAD_GENERATIONS:
                tell(opt, candidates, clean)
            else:
                opt.tell(candidates, sign * clean)
    return opt, given


def telling(place, bad, sign=1, told=None):
    """Tell the clean values, but ``bad`` at the places; ``told`` gets values and points."""

    def tell(opt, candidates, clean):
        clean[PLACES[place]] = bad
        if told is not None:
            told.extend(zip(clean, candidates.x, strict=True))
        opt.tell(candidates, sign * clean)

    return tell


def dropping(place):
    """Discard every pair that has a slot among the places, tell the others."""

    def tell(opt, candidates, clean):
        pairs = np.arange(16) // 4
        lost = np.isin(pairs, [slot // 4 for slot in PLACES[place]])
        opt.discard(candidates[lost])
        opt.tell(candidates[~lost], clean[~lost])

    return tell


def substituting(place):
    """Tell the worst finite value of the generation at the places, in plain words."""

    def tell(opt, candidates, clean):
        good = np.ones(16, bool)
        good[PLACES[place]] = False
        clean[~good] = clean[good].max()
        opt.tell(candidates, clean)

    return tell


def shrunk(place, bad):
    """Tell the same values, divided by 2^1000: exact, and far from the largest float."""

    def tell(opt, candidates, clean):
        clean[PLACES[place]] = bad
        opt.tell(candidates, clean * 2.0**-1000)

    return tell


def where(opt):
    """All that an update changes."""
    state = fingerprint(opt)
    return state["center"], state["sigma"], state["optimizer"], opt.generation


def expected_warnings(place, bad, on_failure):
    if math.isfinite(bad) or on_failure == "raise":
        return []
    return [NonFiniteValueWarning] + ([SkippedUpdateWarning] if place == "all" else [])


def reference(place, bad, on_failure):
    """How a run is told the same in plain words."""
    if math.isfinite(bad):
        return shrunk(place, bad)
    if on_failure == "drop" or place in {"a whole pair", "all"}:
        return dropping(place)  # a pair without any finite value says nothing
    return substituting(place)


@pytest.mark.parametrize("reward_scale", ["kept", "all", "rank"])
@pytest.mark.parametrize("on_failure", ["worst", "drop", "raise"])
@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_bad_values_count_as_documented(place, bad, on_failure, reward_scale):
    options = {"on_failure": on_failure, "reward_scale": reward_scale}
    if on_failure == "raise" and not math.isfinite(bad):
        check_refusal(place, bad, options)
        return
    told = []
    opt, given = drive(telling(place, bad, told=told), **options)
    promised, _ = drive(reference(place, bad, on_failure), **options)

    assert where(opt) == where(promised)
    assert opt.generation == 4
    assert np.isfinite(opt.center).all()
    assert opt.sigma == 0.1
    check_best(opt, place, bad, told)
    check_counts(opt, place, bad)
    assert [w.category for w in given] == expected_warnings(place, bad, on_failure)
    if given:
        assert str(given[0].message).startswith(f"{len(PLACES[place])} of 16 values are NaN")
        assert {w.filename for w in given} == {__file__}

    mirrored, _ = drive(telling(place, bad, sign=-1), sign=-1, **options)
    assert where(mirrored) == where(opt)
    assert mirrored.best.value == -opt.best.value
    np.testing.assert_array_equal(mirrored.best.x, opt.best.x)


def check_refusal(place, bad, options):
    def tell(opt, candidates, clean):
        broken = clean.copy()
        broken[PLACES[place]] = bad
        with refused(opt, NonFiniteValueError, ValueError, match="values: expected finite") as e:
            opt.tell(candidates, broken)
        assert f"got {bad} at position {PLACES[place][0]}" in str(e.value)
        opt.tell(candidates, clean)

    opt, given = drive(tell, **options)
    clean, _ = drive(lambda opt, candidates, values: opt.tell(candidates, values), **options)
    assert fingerprint(opt) == fingerprint(clean)
    assert given == []


def check_best(opt, place, bad, told):
    finite = [pair for pair in told if math.isfinite(pair[0])]
    assert opt.best.value <= min((value for value, _ in finite), default=math.inf)
    assert math.isfinite(opt.best.value)
    if bad == -1e308:  # a legal value: the best one, at the first point that has it
        assert opt.best.value == bad
        np.testing.assert_array_equal(opt.best.x, told[PLACES[place][0]][1])
    else:
        assert opt.best.value == sphere(opt.best.x)


def check_counts(opt, place, bad):
    bad_values = 0 if math.isfinite(bad) else len(BAD_GENERATIONS) * len(PLACES[place])
    skipped = len(BAD_GENERATIONS) if bad_values and place == "all" else 0
    assert opt.counts == {
        "evaluations": 64, "late": 0, "failed": bad_values, "discarded": 0, "skipped": skipped
    }  # fmt: skip


@pytest.mark.parametrize("bad", BAD[:3], ids=str)
@pytest.mark.parametrize("on_failure", ["worst", "drop"])
def test_a_generation_of_failures_moves_nothing(on_failure, bad):
    opt = BGS([1.0, 2.0], 0.1, seed=1, options=Options(on_failure=on_failure))
    opt.tell(candidates := opt.ask(), [sphere(x) for x in candidates])
    before = where(opt)[:3]
    best = opt.best.value
    candidates = opt.ask()
    with pytest.warns(NonFiniteValueWarning), pytest.warns(SkippedUpdateWarning, match="no step"):
        report = opt.tell(candidates, [bad] * len(candidates))
    assert report.updated
    assert opt.generation == 2
    assert where(opt)[:3] == before
    assert opt.best.value == best


@pytest.mark.parametrize("end", [0, 1])
def test_the_search_steps_away_from_the_failing_end(end):
    opt = BGS([0.0], 0.1, num_directions=1, optimizer="sgd", seed=1)
    candidates = opt.ask(4)  # two pairs, so that the generation has a spread
    values = np.array([1.0, 1.0, 2.0, 2.0])
    values[2 + end] = math.nan
    failing = candidates.x[2 + end, 0]
    values[2:][1 - end] = 0.0
    with pytest.warns(NonFiniteValueWarning):
        opt.tell(candidates, values)
    assert opt.center[0] * failing < 0


def test_stalled_generations_end_in_an_error_at_ask_that_changes_nothing():
    opt = BGS([1.0, 2.0], 0.1, seed=1, options=Options(max_skipped=3))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for _ in range(3):
            assert opt.stop() == {}
            opt.tell(candidates := opt.ask(), [math.nan] * len(candidates))
    assert [w.category for w in given] == [NonFiniteValueWarning, SkippedUpdateWarning]
    assert opt.stop() == {"stalled": 3}
    with refused(opt, SearchStalledError, RuntimeError, match="3 generations in a row"):
        opt.ask()


@pytest.mark.parametrize("again", ["same object", "loaded"])
def test_a_category_warns_once_a_run_even_after_a_checkpoint(tmp_path, again):
    opt = BGS([1.0, 2.0], 0.1, num_directions=3, seed=1)
    values = np.array([math.nan, 1, 2, 3, 4, 5])
    with pytest.warns(NonFiniteValueWarning, match="1 of 6 values"):
        opt.tell(opt.ask(), values)
    if again == "loaded":
        opt.save(tmp_path / "run.npz")
        opt = BGS.load(tmp_path / "run.npz")
    opt.tell(opt.ask(), values)  # warnings are errors: none comes
    assert opt.counts["failed"] == 2


def test_a_warning_made_an_error_comes_after_the_state_is_complete():
    runs = [BGS([1.0, 2.0], 0.1, num_directions=3, seed=1) for _ in range(2)]
    values = np.array([math.nan, 1, 2, 3, 4, 5])
    with pytest.raises(NonFiniteValueWarning):  # the filter of this suite
        runs[0].tell(runs[0].ask(), values)
    with pytest.warns(NonFiniteValueWarning):
        runs[1].tell(runs[1].ask(), values)
    assert fingerprint(runs[0]) == fingerprint(runs[1])


@pytest.mark.parametrize("bad", BAD[:3], ids=str)
def test_a_failed_baseline_is_left_out_of_the_acceptance(bad):
    runs = [
        BGS([0.9, -0.4], 0.1, num_directions=4, seed=2,
            options=Options(center_evaluations=2, acceptance=0.1))
        for _ in range(2)
    ]  # fmt: skip
    candidates = runs[0].ask()
    values = np.array([sphere(x) for x in candidates])
    runs[1].tell(runs[1].ask(), values)
    values[0] = bad  # one of two equal center values
    with pytest.warns(NonFiniteValueWarning):
        runs[0].tell(candidates, values)
    assert where(runs[0]) == where(runs[1])


HUGE = {
    "one end of every pair": lambda n: np.where(np.arange(n) % 2, 1e308, 1.0),
    "opposite ends": lambda n: np.where(np.arange(n) % 2, 1e308, -1e308),
    "opposite ends of some": lambda n: np.where(np.arange(n) % 4, 1e308, -1e308),
    "largest floats": lambda n: np.where(np.arange(n) % 3, 1, -1) * np.finfo(float).max,
}


@pytest.mark.parametrize("reward_scale", ["kept", "all", "rank"])
@pytest.mark.parametrize("baseline", [0, 2])
@pytest.mark.parametrize("pattern", HUGE)
def test_huge_values_step_like_the_same_values_made_small(pattern, baseline, reward_scale):
    def run(scale):
        opt = BGS(
            [0.9, -0.4, 0.2], 0.1, num_directions=4, seed=3,
            options=Options(reward_scale=reward_scale, repeats=2, center_evaluations=baseline,
                            acceptance=0.5 if baseline else None),
        )  # fmt: skip
        for _ in range(3):
            candidates = opt.ask()
            opt.tell(candidates, HUGE[pattern](len(candidates)) * scale)
        return opt

    opt = run(1.0)  # RuntimeWarning (overflow) would be an error here
    assert where(opt) == where(run(2.0**-1000))
    assert not np.isnan(opt.history["center_value"]).all() or not baseline
    assert np.isfinite(opt.center).all()


@pytest.mark.parametrize("noisy", [None, False, True])
@pytest.mark.parametrize("place", ["first", "last", "every third", "one generation", "always"])
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_values_leave_the_automatic_rule_finite(bad, place, noisy):
    opt = BGS([0.9, -0.4, 0.2], 0.1, seed=4, optimizer="auto", budget=160,
              options=Options(noisy=noisy, max_skipped=50))  # fmt: skip
    clean = []
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        while not opt.stop():
            candidates = opt.ask()
            values = np.array([sphere(x) for x in candidates])
            number = np.arange(len(values))
            chosen = {
                "first": number == 0,
                "last": number == len(values) - 1,
                "every third": number % 3 == 1,
                "one generation": np.full(len(values), opt.generation == 2),
                "always": np.ones(len(values), bool),
            }[place]
            values[chosen] = bad
            clean += values[np.isfinite(values)].tolist()
            opt.tell(candidates, values)
            assert np.isfinite(opt.center).all()
            assert np.isfinite(opt.average).all()
            assert math.isfinite(opt.sigma)
            assert opt.sigma > 0
    assert {w.category for w in given} <= {NonFiniteValueWarning, SkippedUpdateWarning}
    assert len(given) == len({w.category for w in given})
    if clean:
        assert opt.best.value == min(clean)
    else:
        assert math.isnan(opt.best.value)
        np.testing.assert_array_equal(opt.center, [0.9, -0.4, 0.2])


class Unconvertible:
    """Like a torch tensor that requires a gradient: it refuses with a RuntimeError."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first")


def ragged(n):
    return [[1.0, 2.0]] + [[1.0]] * (n - 1)


WRONG = {
    "None": (lambda n: None, ArgumentTypeError),
    "a None among numbers": (lambda n: [None] + [1.0] * (n - 1), ArgumentTypeError),
    "str": (lambda n: "abc", ArgumentTypeError),
    "numbers as str": (lambda n: ["1.0"] * n, ArgumentTypeError),
    "complex": (lambda n: np.ones(n, complex), ArgumentTypeError),
    "bool": (lambda n: np.ones(n, bool), ArgumentTypeError),
    "object": (lambda n: np.array([1.0] * n, object), ArgumentTypeError),
    "2-D": (lambda n: np.ones((n, 1)), ArgumentValueError),
    "2-D across": (lambda n: np.ones((1, n)), ArgumentValueError),
    "ragged": (ragged, ArgumentTypeError),
    "masked": (lambda n: np.ma.masked_array(np.ones(n), [True] + [False] * (n - 1)),
               ArgumentTypeError),
    "huge int": (lambda n: [10**400] * n, ArgumentTypeError),
    "int beyond what Python prints": (lambda n: [10**5000] * n, ArgumentTypeError),
    "Decimal": (lambda n: [decimal.Decimal(1)] * n, ArgumentTypeError),
    "0-d": (lambda n: np.array(1.0), ArgumentValueError),
    "a number": (lambda n: 1.0, ArgumentValueError),
    "empty": (lambda n: [], ArgumentValueError),
    "one too few": (lambda n: [1.0] * (n - 1), ArgumentValueError),
    "one too many": (lambda n: [1.0] * (n + 1), ArgumentValueError),
    "dates": (lambda n: np.zeros(n, "datetime64[s]"), ArgumentTypeError),
    "dict": (lambda n: dict.fromkeys(range(n), 1.0), ArgumentTypeError),
    "generator": (lambda n: (1.0 for _ in range(n)), ArgumentTypeError),
    "unconvertible": (lambda n: Unconvertible(), ArgumentTypeError),
}  # fmt: skip


@pytest.mark.parametrize("moment", ["first", "in the middle"])
@pytest.mark.parametrize("kind", WRONG)
def test_values_of_a_wrong_type_are_refused_and_change_nothing(kind, moment):
    opt = BGS([1.0, 2.0], 0.1, num_directions=3, seed=1)
    candidates = opt.ask()
    if moment == "in the middle":
        opt.tell(candidates[:2], [1.0, 2.0])
        candidates = candidates[2:]
    make, error = WRONG[kind]
    builtin = TypeError if error is ArgumentTypeError else ValueError
    with refused(opt, error, builtin, match=r"(?s)^values: expected \d+ real numbers.*; got "):
        opt.tell(candidates, make(len(candidates)))
    before = pickled(opt)
    opt.tell(candidates, [1.0] * len(candidates))  # and the run goes on
    assert pickled(opt) != before


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", ">f8", "i1", "u1", "i8", "u8"], ids=lambda d: np.dtype(d).name + d
)
def test_real_numbers_of_any_dtype_are_the_same_values(dtype):
    runs = [BGS([1.0, 2.0], 0.1, num_directions=3, seed=1) for _ in range(2)]
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    runs[0].tell(runs[0].ask(), np.array(values, dtype))
    runs[1].tell(runs[1].ask(), values)
    assert fingerprint(runs[0]) == fingerprint(runs[1])
