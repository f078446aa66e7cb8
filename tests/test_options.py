"""Names become objects; groups of options are frozen and checked when they are made."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import bgs_opt
from bgs_opt import options as module
from bgs_opt.directions import QR, Factorised, Gaussian, GaussianTable, Rademacher
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError
from bgs_opt.hadamard import Hadamard
from bgs_opt.optimizers import SGD, Adam, ClipUp
from bgs_opt.options import (
    OPTIMIZERS,
    QR_LIMIT,
    REGISTERED,
    SAMPLERS,
    Options,
    layout_of,
    optimizer_of,
    sampler_of,
    selection_of,
)
from bgs_opt.protocols import Optimizer, Sampler, Schedule

MATRIX = {"w": (3, 4)}


@pytest.mark.parametrize(
    ("name", "dim", "kind"),
    [
        ("orthogonal", 1, QR), ("orthogonal", QR_LIMIT, QR), ("qr", 10**6, QR),
        ("orthogonal", QR_LIMIT + 1, Hadamard), ("hadamard", 1, Hadamard),
        ("gaussian", 12, Gaussian),
        ("gaussian_table", 12, GaussianTable), ("rademacher", 12, Rademacher),
        ("factorised", 12, Factorised),
    ],
)  # fmt: skip
def test_the_name_of_a_sampler_becomes_the_sampler(name, dim, kind):
    assert type(sampler_of(name, dim, MATRIX)) is kind


def test_every_name_of_a_sampler_or_an_optimizer_becomes_an_object():
    assert all(isinstance(sampler_of(name, 12, MATRIX), Sampler) for name in SAMPLERS)
    made = {name: optimizer_of(name) for name in OPTIMIZERS}
    assert made == {"clipup": ClipUp(), "adam": Adam(), "sgd": SGD(), "auto": None}


@pytest.mark.parametrize("sampler", [Gaussian(), QR(), Hadamard()], ids=lambda s: type(s).__name__)
def test_a_sampler_object_is_used_as_it_is(sampler):
    assert sampler_of(sampler, 3, {}) is sampler


def test_an_optimizer_object_is_used_as_it_is():
    rule = ClipUp(momentum=0.3)
    assert optimizer_of(rule) is rule
    assert isinstance(rule, Optimizer)


class Own:
    """Somebody else's sampler: the protocol is all that counts."""

    def bind(self, dim, num_directions, dtype, entropy, layout):
        return Gaussian().bind(dim, num_directions, dtype, entropy, layout)


def test_a_sampler_of_the_callers_own_class_serves():
    opt = bgs_opt.BGS(np.zeros(3), 0.1, sampler=Own(), seed=1)
    twin = bgs_opt.BGS(np.zeros(3), 0.1, sampler="gaussian", seed=1)
    np.testing.assert_array_equal(opt.ask().x, twin.ask().x)


@pytest.mark.parametrize(("name", "weight"), [("difference", 0), ("max", 1), (0.25, 0.25), (3, 3)])
def test_a_selection_is_the_weight_of_the_mean(name, weight):
    assert selection_of(name) == weight


@pytest.mark.parametrize(
    ("resolve", "name", "bad"),
    [
        (lambda v: sampler_of(v, 3, {}), "sampler", ["qrr", "", None, 3, object(), Gaussian]),
        (optimizer_of, "optimizer", ["sgdd", "", None, 3, object(), ClipUp]),
        (selection_of, "selection", ["min", None, -1, float("nan"), float("inf"), True, [1]]),
    ],
)
def test_an_unknown_name_or_object_is_refused_with_what_was_expected(resolve, name, bad):
    for value in bad:
        with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"^{name}: expected"):
            resolve(value)


def test_factorised_without_a_layout_is_refused():
    for sampler in ("factorised", Factorised()):
        with pytest.raises(ArgumentValueError, match="^layout: expected names and shapes"):
            sampler_of(sampler, 12, {})


# ---- layouts


def test_a_layout_is_copied_and_its_shapes_become_tuples():
    given = {"w": [np.int64(3), 4], "b": (2,), "scalar": ()}
    made = layout_of(given, 15)
    assert made == {"w": (3, 4), "b": (2,), "scalar": ()}
    assert list(made) == ["w", "b", "scalar"]
    given["w"][0] = 9
    assert made["w"] == (3, 4)
    assert layout_of(None, 15) == {}


@pytest.mark.parametrize(
    "layout", [{"w": (3, 4)}, {}, {"w": (15, 0)}, {"w": (-3, -5)}, {"w": 15}, {"w": "ab"},
               [(3, 5)], {"w": (3.0, 5)}, {"w": (3, None)}],
)  # fmt: skip
def test_a_layout_that_does_not_make_up_the_vector_is_refused(layout):
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match="^layout"):
        layout_of(layout, 15)


# ---- the group


def test_options_are_frozen_and_compare_and_copy_by_content():
    made = Options(repeats=3, noisy=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.repeats = 4
    assert made == Options(repeats=3, noisy=True) != Options()
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    assert dataclasses.replace(made, repeats=5).noisy is True


def test_options_that_are_replaced_are_checked_again():
    with pytest.raises(ArgumentValueError, match="^repeats: expected"):
        dataclasses.replace(Options(), repeats=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 0), ({"center_evaluations": 4}, 4), ({"acceptance": 1.0}, 1),
     ({"acceptance": 1.0, "center_evaluations": 3}, 3), ({"acceptance": 0.0}, 1)],
)  # fmt: skip
def test_acceptance_brings_a_baseline_with_it(settings, expected):
    assert Options(**settings).baseline_evaluations == expected


def test_the_documented_defaults_are_the_defaults():
    assert all(f.default is not dataclasses.MISSING for f in dataclasses.fields(Options))
    for field in dataclasses.fields(Options):
        assert (
            f"{field.name} :" in Options.__doc__
            or f"{field.name}, " in Options.__doc__
            or (f", {field.name} :" in Options.__doc__)
        )


def test_a_run_of_the_defaults_is_that_of_common_seeds_by_pair():
    """Also for checkpoints that were written when "pair" was the default itself."""
    plain = bgs_opt.BGS(np.zeros(3), 0.1, seed=1)
    named = bgs_opt.BGS(np.zeros(3), 0.1, seed=1, options=Options(common_seeds="pair"))
    assert plain.differs(named) == []
    np.testing.assert_array_equal(plain.ask().seeds, named.ask().seeds)
    assert Options(common_seeds="none").resolved("generation").common_seeds == "none"


# ---- what a checkpoint may hold


def test_every_public_sampler_optimizer_and_schedule_can_be_written():
    public = [getattr(bgs_opt, name) for name in bgs_opt.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    described = [k for k in kinds if hasattr(k, "bind") or hasattr(k, "step") or k in SIGMA_RULES]
    assert len(described) >= 12
    assert set(described) <= set(REGISTERED.values())
    assert all(REGISTERED[kind.__name__] is kind for kind in described)


SIGMA_RULES = {
    bgs_opt.CumulativeAdaptation, bgs_opt.ExponentialDecay, bgs_opt.InverseDecay,
    bgs_opt.LinearDecay,
}  # fmt: skip


def test_schedules_are_schedules():
    assert isinstance(bgs_opt.ExponentialDecay(0.9), Schedule)
    assert isinstance(bgs_opt.LinearDecay(3), Schedule)
    assert set(module.SELECTIONS) == {"difference", "max"}
