"""R5: every argument, with every kind of value that it cannot take, is refused by its name.

A message says ``name: expected ...; got ...``. The table is plain data, so that a part of it runs
in an interpreter without assertions as well.
"""

from __future__ import annotations

import decimal
import fractions
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.optimize

from bgs_opt import (
    BGS,
    QR,
    SGD,
    Adam,
    ClipUp,
    CumulativeAdaptation,
    ExponentialDecay,
    Gaussian,
    LinearDecay,
    Options,
)
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, BGSError
from tests.helpers import fingerprint, play, python, refused

HUGE_INT = 10**5000  # Python refuses to print it
VALUE, TYPE = ArgumentValueError, ArgumentTypeError
NAN, INF = math.nan, math.inf


class Case(NamedTuple):
    """``owner`` called with ``argument = value`` raises ``error``."""

    owner: str
    argument: str
    value: Any
    error: type[Exception]
    more: dict[str, Any] = {}  # noqa: RUF012

    def call(self) -> object:
        given = {self.argument: self.value, **self.more}
        if self.owner == "BGS":
            return BGS(**{"x0": [1.0, 2.0, 3.0], "sigma": 0.1, **given})
        if self.owner == "Options in BGS":
            return BGS(
                [1.0, 2.0, 3.0], 0.1, options=Options(**{self.argument: self.value}), **self.more
            )
        return OWNERS[self.owner](**given)


OWNERS = {
    "Options": Options,
    "SGD": SGD,
    "Adam": Adam,
    "ClipUp": ClipUp,
    "ExponentialDecay": ExponentialDecay,
    "LinearDecay": LinearDecay,
    "CumulativeAdaptation": CumulativeAdaptation,
}


class Shapeless:
    """A value whose conversion to an array and whose repr fail."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")

    def __repr__(self):
        raise RuntimeError("no repr")


NOT_NUMBERS = ["0.1", [0.1], (0.1,), 1j, True, np.True_, np.array([0.1]), decimal.Decimal("0.1"),
               {}, print, Shapeless()]  # fmt: skip
NOT_INTEGERS = [1.5, 2.0, NAN, INF, "3", [3], True, np.float64(3), np.array([3]), 1j,
                decimal.Decimal(3), {}, Shapeless()]  # fmt: skip
NOT_NAMES = [0, -1, NAN, True, ["pair"], b"pair", print, Shapeless()]
NOT_FLAGS = [0, 1, -1, NAN, "yes", [True], 1.0, Shapeless()]


def numbers(owner, argument, wrong, *, optional=False, **more):
    """Cases of a number: out of its range, not finite, not a number."""
    values = [*wrong, NAN, INF, -INF, HUGE_INT, np.float32("nan"), np.array(NAN)]
    types = NOT_NUMBERS if optional else [None, *NOT_NUMBERS]
    return [
        *(Case(owner, argument, v, VALUE, more) for v in values),
        *(Case(owner, argument, v, TYPE, more) for v in types),
    ]


def integers(owner, argument, wrong, *, optional=False):
    types = NOT_INTEGERS if optional else [None, *NOT_INTEGERS]
    return [
        *(Case(owner, argument, v, VALUE) for v in wrong),
        *(Case(owner, argument, v, TYPE) for v in types),
    ]


def names(owner, argument, *, optional=False):
    types = NOT_NAMES if optional else [None, *NOT_NAMES]
    return [
        *(Case(owner, argument, v, VALUE) for v in ("", "nope", "x" * 10_000)),
        *(Case(owner, argument, v, TYPE) for v in types),
    ]


def flags(owner, argument, *, optional=False):
    types = NOT_FLAGS if optional else [None, *NOT_FLAGS]
    return [Case(owner, argument, v, TYPE) for v in types]


def both(owner, argument, values, types, **more):
    return [
        *(Case(owner, argument, v, VALUE, more) for v in values),
        *(Case(owner, argument, v, TYPE, more) for v in types),
    ]


X0 = both(
    "BGS", "x0",
    [[], 1.0, 0, -1, np.array(1.0), [[1.0, 2.0]], np.ones((3, 1)), [1.0, NAN], [1.0, INF], [-INF]],
    [None, "abc", ["1.0", "2.0"], [1j], [True, False], [None, 1.0], [[1.0], [1.0, 2.0]], {},
     np.ones(3, object), np.ones(3, np.float16), np.ma.masked_array([1.0, 2.0], [True, False]),
     [HUGE_INT], [decimal.Decimal(1)], Shapeless(), False],
)  # fmt: skip
SIGMA = [
    *numbers("BGS", "sigma", [0, 0.0, -0.0, -1, -0.1, 5e-324]),
    *(Case("BGS", "sigma", v, VALUE, {"x0": np.ones(3, np.float32)}) for v in (1e-40, 1e39)),
]
LAYOUT = both(
    "BGS", "layout",
    [{}, {"a": (2,)}, {"a": (2, 2)}, {"a": (0,), "b": (3,)}, {"a": (-3,)}, {"a": (3,), "b": ()}],
    [0, -1, NAN, "abc", [("a", (3,))], {"a": 3}, {"a": "3"}, {"a": (3.0,)}, {"a": (True, 3)},
     {1: (3,)}, {None: (3,)}, {"a": None}, ("a", 3)],
)  # fmt: skip
BOUNDS = both(
    "BGS", "bounds",
    [(NAN, 5), (0, NAN), (5, 0), ([0, 0], 5), (0, [5] * 4), (np.zeros((3, 1)), 5), (INF, INF),
     (-INF, -INF), ([0, 0, 6], [5, 5, 5]), ([0, 0, NAN], 5), scipy.optimize.Bounds(5, 0),
     (0, np.array([[5.0]]))],
    [0, -1, NAN, "ab", {0: 1, 1: 2}, ("0", "5"), (["0"] * 3, 5), (0j, 5), (np.zeros(3) * 1j, 5),
     (False, True), (Shapeless(), 5), (0, {}), ([[0], [0, 0]], 5), print,
     (np.ma.masked_array(np.zeros(3), [True, False, False]), 5)],
)  # fmt: skip
SCALE = [
    *both(
        "Options in BGS", "scale",
        [0, 0.0, -1, NAN, INF, HUGE_INT, [1.0, 2.0], np.ones(4), np.ones((3, 1)), [1, 0, 1],
         [1, -1, 1], [1, NAN, 1], [1, INF, 1], [], {"a": 1.0}],
        ["1", "abc", True, [True] * 3, 1j, [1j] * 3, ["1"] * 3, [[1], [1, 2]], print, Shapeless(),
         np.ma.masked_array(np.ones(3), [True, False, False]), decimal.Decimal(1)],
    ),
    *(
        Case("BGS", "options", Options(scale=value), error, {"layout": {"a": (1,), "b": (2,)}})
        for value, error in [
            ({"a": 1.0}, VALUE), ({"a": 1.0, "c": 1.0}, VALUE), ({"a": 1.0, "b": 0}, VALUE),
            ({"a": 1.0, "b": -1}, VALUE), ({"a": 1.0, "b": NAN}, VALUE),
            ({"a": 1, "b": "1"}, TYPE), ({"a": 1.0, "b": True}, TYPE), ({}, VALUE),
        ]
    ),
]  # fmt: skip
CLASSES = [  # the class in place of an object of it
    Case("BGS", "sampler", QR, TYPE),
    Case("BGS", "sampler", Gaussian, TYPE),
    Case("BGS", "optimizer", Adam, TYPE),
    Case("BGS", "optimizer", ClipUp, TYPE),
    Case("BGS", "sigma_rule", ExponentialDecay, TYPE),
    Case("BGS", "sigma_rule", CumulativeAdaptation, TYPE),
    Case("BGS", "options", Options, TYPE),
    Case("Options", "learning_rate_schedule", LinearDecay, TYPE),
]
DECIDED = {  # what optimizer="auto" decides itself
    "num_directions": 4, "top_k": 2, "selection": "max", "learning_rate": 0.1,
    "sigma_rule": ExponentialDecay(0.9),
}  # fmt: skip
TOGETHER = [
    Case("BGS", "top_k", 4, VALUE, {"num_directions": 3}),
    Case("BGS", "x0", [1.0, 2.0, 9.0], VALUE, {"bounds": (0, 5)}),
    Case("BGS", "optimizer", "clipup", VALUE, {"sigma_rule": CumulativeAdaptation()}),
    Case("BGS", "optimizer", SGD(0.5), VALUE, {"sigma_rule": CumulativeAdaptation()}),
    Case("BGS", "layout", None, VALUE, {"sampler": "factorised"}),
    Case("Options", "max_sigma", 0.5, VALUE, {"min_sigma": 1.0}),
    *(Case("BGS", n, v, VALUE, {"optimizer": "auto"}) for n, v in DECIDED.items()),
    *(
        Case("Options in BGS", n, v, VALUE, {"optimizer": "auto"})
        for n, v in {
            "learning_rate_schedule": LinearDecay(9),
            "acceptance": 0.5,
            "late": "use",
        }.items()
    ),
]
BGS_CASES = [
    *X0, *SIGMA, *LAYOUT, *BOUNDS,
    *integers("BGS", "num_directions", [0, -1, 1 << 40, HUGE_INT], optional=True),
    *integers("BGS", "top_k", [0, -1, 8, HUGE_INT], optional=True),
    *names("BGS", "sampler"),
    *names("BGS", "optimizer"),
    *both("BGS", "selection", ["", "nope", -1, -0.5, NAN, INF, HUGE_INT],
          [True, ["max"], 1j, {}, print, Shapeless(), decimal.Decimal(1)]),
    *numbers("BGS", "learning_rate", [0, -1, -0.1], optional=True),
    *both("BGS", "sigma_rule", [], [0, -1, NAN, INF, True, "linear", [0.9], {}, Shapeless()]),
    *flags("BGS", "maximize"),
    *integers("BGS", "budget", [0, -1], optional=True),
    *both("BGS", "seed", [-1, np.int64(-1), -HUGE_INT],
          [0.0, 1.5, NAN, INF, True, "1", [1, 2], {}, np.random.RandomState(1), Shapeless()]),
    *both("BGS", "options", [], [None, 0, -1, NAN, {}, "worst", [], Shapeless()]),
]  # fmt: skip
OPTION_CASES = [
    *integers("Options", "repeats", [0, -1, 1 << 30, HUGE_INT]),
    *names("Options", "common_seeds", optional=True),
    *names("Options", "reward_scale"),
    *integers("Options", "center_evaluations", [-1, 1 << 30, HUGE_INT]),
    *numbers("Options", "acceptance", [], optional=True),
    *integers("Options", "scenarios", [0, -1, 2, HUGE_INT]),
    *numbers("Options", "accept_fraction", [-1, -1e-9, 1.5]),
    *numbers("Options", "weight_decay", [-1, -1e-9, 1, 1.5]),
    *numbers("Options", "averaging", [-1, -1e-9, 1, 1.5]),
    *names("Options", "on_failure"),
    *integers("Options", "min_valid", [0, -1, -HUGE_INT]),
    *integers("Options", "max_skipped", [0, -1, -HUGE_INT]),
    *names("Options", "late"),
    *names("Options", "bound_mode"),
    *numbers("Options", "min_sigma", [0, -1], optional=True),
    *numbers("Options", "max_sigma", [0, -1], optional=True),
    *both("Options", "learning_rate_schedule", [],
          [0, -1, NAN, INF, True, "linear", [0.9], {}, Shapeless()]),
    *flags("Options", "noisy", optional=True),
    *integers("Options", "start_evaluations", [-1, 1 << 30, HUGE_INT]),
    *integers("Options", "num_workers", [0, -1, 1 << 30, HUGE_INT]),
    *flags("Options", "distinct"),
    *integers("Options", "patience", [0, -1, 1 << 31, HUGE_INT], optional=True),
    *SCALE,
]  # fmt: skip
RULE_CASES = [
    *numbers("SGD", "momentum", [-1, -1e-9, 1, 1.5]),
    *numbers("ClipUp", "momentum", [-1, -1e-9, 1, 1.5]),
    *numbers("ClipUp", "max_speed", [0, -1]),
    *numbers("Adam", "beta1", [-1, -1e-9, 1, 1.5]),
    *numbers("Adam", "beta2", [-1, -1e-9, 1, 1.5]),
    *numbers("Adam", "epsilon", [0, -1]),
    *numbers("ExponentialDecay", "rate", [0, -1, 1.5]),
    *numbers("ExponentialDecay", "floor", [0, -1, 1.5], rate=0.9),
    *integers("LinearDecay", "generations", [0, -1, -HUGE_INT]),
    *numbers("LinearDecay", "final", [0, -1, 1.5], generations=9),
    *numbers("CumulativeAdaptation", "damping", [0, -1]),
]
CASES = [*BGS_CASES, *OPTION_CASES, *RULE_CASES, *CLASSES, *TOGETHER]


def name_of(case):
    value = "?" if isinstance(case.value, Shapeless) else type(case.value).__name__
    if isinstance(case.value, (float, str)) or (case.value in (0, 1, -1) if value == "int" else 0):
        value = str(case.value)[:12]
    return f"{case.owner}-{case.argument}-{value}"


def complaint(case):
    """What is wrong with how a case is refused; None if nothing."""
    try:
        made = case.call()
    except BGSError as error:
        builtin = ValueError if case.error is ArgumentValueError else TypeError
        if not isinstance(error, (case.error, builtin)):
            return f"{type(error).__name__} in place of {case.error.__name__}: {error}"
        return message_complaint(case, str(error))
    except BaseException as error:
        return f"{type(error).__name__}, which is not an error of bgs_opt: {error}"
    return f"accepted: {made}"


def message_complaint(case, message):
    name, colon, rest = message.partition(": expected ")
    argument = "scale" if isinstance(case.value, Options) else case.argument
    if not colon or name.split("[")[0] != argument:
        return f"the message does not start with {argument!r}: {message}"
    expected, got, came = rest.partition("; got ")
    if not got or len(expected) < 4 or not came:
        return f"the message does not say what was expected and what came: {message}"
    if len(message) > 400:
        return f"the message is {len(message)} characters long"
    value = case.value
    plain = type(value) in {float, str, bool} or (type(value) is int and abs(value) != HUGE_INT)
    if plain and not case.more and repr(value)[:50] not in came:
        return f"the message does not show {value!r}: {message}"
    return None


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_bad_argument_is_refused_by_its_name(case):
    assert complaint(case) is None


def test_every_argument_and_every_field_is_in_the_table():
    assert len(CASES) > 400
    covered = {(c.owner.removesuffix(" in BGS"), c.argument) for c in CASES}
    owners = {"BGS": BGS.__init__, **{n: kind.__init__ for n, kind in OWNERS.items()}}
    for owner, init in owners.items():
        code = init.__code__
        arguments = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        assert {(owner, a) for a in arguments} <= covered


WITHOUT_ASSERTIONS = """
import sys
from tests.reliability.test_arguments import CASES, complaint, misuse_complaints
wrong = [f"{c.owner}({c.argument}): {w}" for c in CASES if (w := complaint(c))]
wrong += misuse_complaints()
print(sys.flags.optimize, len(CASES) > 400, len(wrong), *wrong[:20], sep="\\n")
"""


def misuse_complaints():
    """Misuse of ask and tell that must be refused without the help of ``assert``."""
    opt = BGS([1.0, 2.0], 0.1, num_directions=3, seed=1)
    candidates = opt.ask()
    opt.tell(candidates[:1], [1.0])
    calls = {
        "ask(0)": lambda: opt.ask(0),
        "blocks(0)": lambda: next(candidates.blocks(0)),
        "other value": lambda: opt.tell(candidates[:1], [2.0]),
        "unknown id": lambda: opt.tell([99], [2.0]),
        "too few values": lambda: opt.tell(candidates, [2.0]),
        "complex values": lambda: opt.tell(candidates, [2j] * 6),
        "unknown discard": lambda: opt.discard([99]),
    }
    wrong = []
    for name, call in calls.items():
        before = fingerprint(opt)
        try:
            call()
        except BGSError:
            if fingerprint(opt) != before:
                wrong.append(f"{name} changed the state")
        else:
            wrong.append(f"{name} was accepted")
    return wrong


def test_misuse_is_refused():
    assert misuse_complaints() == []


def test_arguments_are_checked_without_assertions_as_well():
    output = python(f"import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-O', "
                    f"'-W', 'error', '-c', {WITHOUT_ASSERTIONS!r}]))")  # fmt: skip
    assert output.splitlines()[:3] == ["1", "True", "0"], output


@pytest.mark.parametrize(
    ("argument", "value", "shows"),
    [
        ("x0", [1.0, NAN, 2.0], "nan at coordinate 1"),
        ("x0", [1.0, 1.0, -INF], "-inf at coordinate 2"),
        ("bounds", ([0, NAN, 0], 5), "nan at coordinate 1"),
        ("bounds", ([0, 6, 0], 5), r"\[6.0, 5.0\] at coordinate 1"),
        ("options", Options(scale=[1, 2, -3]), "-3.0 at coordinate 2"),
        ("options", Options(scale=[1, NAN, 1]), "nan at coordinate 1"),
    ],
)
def test_the_message_about_an_array_shows_the_bad_number(argument, value, shows):
    with pytest.raises(ArgumentValueError, match=shows):
        BGS(**{"x0": [1.0, 2.0, 3.0], "sigma": 0.1, argument: value})


@pytest.mark.parametrize("case", [c for c in BGS_CASES if c.argument != "seed"], ids=name_of)
def test_a_refused_constructor_draws_nothing_from_the_generator_it_was_given(case):
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    more = {**case.more, "seed": generator}
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        case._replace(more=more).call()
    assert generator.bit_generator.state == before


# ---- sigma and its limits


@pytest.mark.parametrize(
    "limits", [{"min_sigma": 1.0}, {"max_sigma": 0.01}, {"min_sigma": 1e7}, {"max_sigma": 1e-20}]
)
def test_sigma_outside_of_its_own_limits_is_refused(limits):
    with pytest.raises(ArgumentValueError, match=r"sigma: expected .*; got "):
        BGS([1.0, 2.0], 0.1, options=Options(**limits))


@pytest.mark.parametrize("limits", [{"min_sigma": 0.1}, {"max_sigma": 0.1},
                                    {"min_sigma": 0.1, "max_sigma": 0.1}])  # fmt: skip
def test_sigma_at_its_limits_is_accepted(limits):
    assert play(BGS([1.0, 2.0], 0.1, options=Options(**limits)), 2).sigma == 0.1


# ---- ask and blocks


@pytest.mark.parametrize("n", [0, -1, 1 << 31, HUGE_INT, *NOT_INTEGERS], ids=lambda n: "n")
def test_ask_refuses_a_bad_count_and_changes_nothing(n):
    opt = BGS([1.0, 2.0], 0.1, seed=1)
    error = ArgumentValueError if type(n) is int else ArgumentTypeError
    with refused(opt, error, match=r"^n: expected an int .*; got "):
        opt.ask(n)


@pytest.mark.parametrize("rows", [0, -1, None, *NOT_INTEGERS], ids=lambda n: "rows")
def test_blocks_refuses_a_bad_count(rows):
    candidates = BGS([1.0, 2.0], 0.1, seed=1).ask()
    error = ArgumentValueError if type(rows) is int else ArgumentTypeError
    with pytest.raises(error, match=r"^rows: expected an int .*; got "):
        next(candidates.blocks(rows))


@pytest.mark.parametrize(
    "index",
    ["a", 1.5, None, True, [0.0], ["a"], [[0]], np.zeros((1, 1), int), {}, 1j, [None]],
    ids=str,
)
def test_an_index_of_a_wrong_type_is_refused(index):
    candidates = BGS([1.0, 2.0], 0.1, seed=1).ask()
    with pytest.raises(ArgumentTypeError, match=r"^index: expected an int, a slice, .*; got "):
        candidates[index]


@pytest.mark.parametrize("index", [100, -100, [100], [0, -100], [True], [True] * 100], ids=str)
def test_an_index_out_of_range_is_an_index_error(index):
    candidates = BGS([1.0, 2.0], 0.1, seed=1).ask()
    with pytest.raises(IndexError):
        candidates[index]


# ---- what is accepted

ACCEPTED = {
    "sigma": [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), fractions.Fraction(1, 4)],
    "learning_rate": [0.25, np.float32(0.25), np.array(0.25), fractions.Fraction(1, 4)],
    "num_directions": [5, np.int64(5), np.uint8(5)],
    "top_k": [2, np.int64(2), np.uint8(2)],
    "budget": [50, np.int64(50)],
    "maximize": [True, np.True_],
    "selection": [1, 1.0, np.float32(1), np.int64(1), "max"],
    "seed": [3, np.int64(3), np.random.SeedSequence(3)],
    "bounds": [(0, 5), [0.0, 5.0], ([0] * 3, [5] * 3), np.array([0, 5]),
               (np.zeros(3), np.array(5)), scipy.optimize.Bounds(0, 5),
               scipy.optimize.Bounds([0] * 3, [5] * 3), ([0.0], np.float32(5))],
    "scale": [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), [2, 2, 2], np.full(3, 2, "f4")],
    "x0": [[1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3]), np.array([1, 2, 3], ">f8"),
           np.array([1, 0, 2, 0, 3, 0], float)[::2], np.array([1, 2, 3], np.uint8)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "value"),
    [(argument, value) for argument, values in ACCEPTED.items() for value in values[1:]],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_equal_values_of_other_types_give_the_same_bits(argument, value):
    def run(value):
        given = {"x0": [1.0, 2.0, 3.0], "sigma": 0.1, "num_directions": 4, "seed": 3}
        if argument == "scale":
            given["options"] = Options(scale=value)
        else:
            given[argument] = value
        return fingerprint(play(BGS(**given), 3))

    assert run(value) == run(ACCEPTED[argument][0])


@pytest.mark.parametrize("value", [(-1e300, 1e300), (-INF, INF), (None, 1e300), (-1e300, [1e300])])
def test_wide_bounds_on_float32_stay_open_without_a_warning(value):
    if value[0] is None:
        value = (np.full(3, -INF), value[1])
    x0 = np.ones(3, np.float32)
    bounded, free = (play(BGS(x0, 0.1, seed=1, bounds=b), 3) for b in (value, None))
    np.testing.assert_array_equal(bounded.center, free.center)


@pytest.mark.parametrize("scale", [1e300, 1e-300, [1, 1e300, 1], [1e-300, 1, 1]])
def test_a_scale_beyond_float32_is_refused(scale):
    with pytest.raises(ArgumentValueError, match=r"^scale: expected "):
        BGS(np.ones(3, np.float32), 0.1, options=Options(scale=scale))
