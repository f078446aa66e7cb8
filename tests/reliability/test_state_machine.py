"""R13: any sequence of calls, right and wrong, against a model of what was asked and told.

    opt      what the calls are made on; replaced by a loaded, unpickled or copied one at any time
    model    dictionaries of what was asked, told and given up, and which pairs are whole
    shadow   a second BGS that gets what ``opt`` accepted in another order, once a generation

After every call the model says what ``opt`` must show, and after every generation ``opt`` and
``shadow`` must have the same bits.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import random
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bgs_opt import BGS, SGD, ExponentialDecay, Options
from bgs_opt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BGSError,
    BGSWarning,
    DuplicateTellError,
    NonFiniteValueError,
    StaleCandidateError,
    UnknownCandidateError,
)
from bgs_opt.update import LATE_WINDOW
from tests.helpers import fingerprint, pickled

START = np.array([0.5, -0.25, 1.0])
BOX = (np.array([0.4, -np.inf, 0.9]), np.array([0.65, np.inf, 1.5]))
BAD = (math.nan, math.inf, -math.inf)
ORDINARY = (0.0, -0.0, 1.0, -2.5, 3.25, 0.1)
EXTREME = (
    sys.float_info.max,
    -sys.float_info.max,
    1e308,
    5e-324,
    -5e-324,
    2.0**-1022,
    1e16,
    -1e-300,
)
VARIANTS = 60  # argument lists of each call
PREPARED = random.Random(13)


def any_float():
    """A finite float of any bits."""
    value = math.nan
    while not math.isfinite(value):
        (value,) = struct.unpack("d", PREPARED.randbytes(8))
    return value


def lists_of(*kinds):
    """Lists of one to three numbers, each of one of the kinds."""

    def number():
        kind = PREPARED.choice(kinds)
        return kind() if callable(kind) else PREPARED.choice(kind)

    return [[number() for _ in range(1 + i % 3)] for i in range(VARIANTS)]


VALUES = lists_of(ORDINARY, EXTREME, any_float)
WITH_BAD = lists_of(ORDINARY, ORDINARY, EXTREME, BAD)
SOME = [(PREPARED.randint(1, 1 + i // 5), PREPARED.randint(0, i)) for i in range(VARIANTS)]
"""How many, from where on."""
PLACES = range(10)

CONFIGURATIONS = st.fixed_dictionaries(
    {
        "sampler": st.sampled_from(["qr", "hadamard", "gaussian", "rademacher"]),
        "optimizer": st.sampled_from(["clipup", "adam", "sgd", SGD(0.5)]),
        "num_directions": st.integers(1, 3),
        "selection": st.sampled_from(["difference", "max"]),
        "sigma_rule": st.sampled_from([None, ExponentialDecay(0.8)]),
        "bounds": st.sampled_from([None, BOX]),
        "maximize": st.booleans(),
        "options": st.builds(
            Options,
            repeats=st.integers(1, 2),
            center_evaluations=st.integers(0, 2),
            acceptance=st.sampled_from([None, 0.5]),
            reward_scale=st.sampled_from(["kept", "all", "rank"]),
            averaging=st.sampled_from([0.0, 0.5]),
            on_failure=st.sampled_from(["worst", "drop", "raise"]),
            late=st.sampled_from(["ignore", "use"]),
            bound_mode=st.sampled_from(["reflect", "clip"]),
            start_evaluations=st.sampled_from([0, 0, 2]),
            max_skipped=st.just(10_000),
        ),
    }
)
ASKED, TOLD, LOST, RETURNED = "asked", "told", "lost", "told after it was given up"


@dataclass
class Entry:
    """What the model knows of one candidate."""

    x: bytes
    status: str = ASKED
    value: float = math.nan


@dataclass
class Model:
    """What was asked and told; ids as keys, in the order of asking."""

    num_center: int
    target: int
    repeats: int
    number: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)  # of the open generation
    earlier: dict[int, dict[int, Entry]] = field(default_factory=dict)  # closed ones
    evaluations: int = 0
    late: int = 0
    failed: int = 0
    discarded: int = 0
    best: tuple[float, int, bytes] = (math.inf, -1, b"")

    def complete(self) -> bool:
        """All center evaluations and as many whole pairs as the update waits for."""
        out = [i for i, e in enumerate(self.entries.values()) if e.status == ASKED]
        if len(self.entries) < self.num_center or any(i < self.num_center for i in out):
            return False
        size = 2 * self.repeats
        whole = (len(self.entries) - self.num_center) // size
        begun = {(i - self.num_center) // size for i in out}
        return whole - sum(pair < whole for pair in begun) >= self.target

    @property
    def grown(self) -> bool:
        return len(self.entries) > self.num_center + 2 * self.repeats * self.target

    def find(self, name: int) -> Entry:
        return self.earlier.get(name >> 32, {}).get(name) or self.entries[name]

    def out(self, status: str = ASKED) -> list[int]:
        return [name for name, e in self.entries.items() if e.status == status]

    def late_ones(self, *statuses: str) -> list[int]:
        return [n for part in self.earlier.values() for n, e in part.items()
                if e.status in statuses]  # fmt: skip

    def known(self) -> list[int]:
        return [*self.out(TOLD), *self.out(RETURNED), *self.late_ones(TOLD, RETURNED)]

    def close(self, num_center: int, target: int) -> None:
        self.earlier[self.number] = self.entries
        self.earlier.pop(self.number - LATE_WINDOW, None)
        self.entries, self.number = {}, self.number + 1
        self.num_center, self.target = num_center, target


def chosen(names: list[int], some: tuple[int, int]) -> list[int]:
    """``count`` of the names, every third or so from a place on, each once."""
    count, start = some
    size = len(names)
    step = next(s for s in (3, 2, 1) if math.gcd(s, size) == 1)
    return [names[(start + step * i) % size] for i in range(min(count, size))]


def losses_first(events):
    """Of a candidate that was given up and told after all, the loss comes before the value."""
    events, place = list(events), {}
    for i, (_, name, value) in enumerate(events):
        j = place.setdefault(name, i)
        if i != j and value is None:
            events[i], events[j] = events[j], events[i]
    return events


class Prepared(NamedTuple):
    ready: Callable[[Model], object]
    arguments: list[tuple]


CALLS: dict[str, Prepared] = {}


def call(*choices, when=lambda model: True):
    """Register a method as a call; each argument is one of its choices."""
    arguments = [tuple(PREPARED.choice(c) for c in choices) for _ in range(VARIANTS)]

    def register(method):
        CALLS[method.__name__] = Prepared(when, arguments)
        return method

    return register


def mixtures():
    """Sets of allowed calls, all of them first: some bugs show only where some are missing."""
    yield frozenset(CALLS)
    for _ in range(255):
        share = PREPARED.random()
        yield frozenset(name for name in CALLS if PREPARED.random() < share)


class Calls(RuleBasedStateMachine):
    """A step is a call, invariants are promises.

    Hypothesis draws one prepared call a step: what it draws by itself costs more than the call.
    """

    folder = ""

    # ---- setting up, and the one way to make a call

    @initialize(
        configuration=CONFIGURATIONS,
        seed=st.integers(0, 3),
        allowed=st.deferred(lambda: st.sampled_from(MIXTURES)),
    )
    def start(self, configuration, seed, allowed):
        self.allowed = allowed
        options = configuration["options"]
        self.opt, self.shadow = (BGS(START, 0.1, seed=seed, **configuration) for _ in range(2))
        self.sign = -1.0 if configuration["maximize"] else 1.0
        self.strict = options.on_failure == "raise"
        centers = options.center_evaluations
        self.every = (
            centers or int(options.acceptance is not None),
            configuration["num_directions"],
        )
        first = (options.start_evaluations, 0) if options.start_evaluations else self.every
        self.model = Model(*first, options.repeats)
        self.events = []  # (call number, id, value; None for a loss) of the open generation
        self.calls = 0
        self.warned = set()
        self.seen = None
        self.center, self.sigma = self.opt.center, self.opt.sigma
        self.shuffle = random.Random(seed)

    def made(self, call):
        """The result of a call; its warnings are of this package, each category once a run."""
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            result = call()
        for warning in given:
            assert issubclass(warning.category, BGSWarning), warning
            assert warning.category not in self.warned
            assert warning.filename == __file__
            self.warned.add(warning.category)
        return result

    def refuses(self, error, call):
        before = pickled(self.opt)
        try:
            self.made(call)
        except error as error_of_ours:
            if not isinstance(error_of_ours, BGSError):
                raise
        else:
            raise AssertionError(f"{error} was expected")
        assert pickled(self.opt) == before

    def settle(self, names, values, call):
        """Make a call that tells or discards; what is new goes into the model."""
        model, self.calls = self.model, self.calls + 1
        new = dict(zip(names, values, strict=True))
        if values[:1] == [None]:
            new = {n: None for n in new if model.find(n).status == ASKED}
        else:
            new = {n: v for n, v in new.items() if model.find(n).status in {ASKED, LOST}}
        late = sum(name >> 32 < model.number for name in new)
        for name, value in new.items():
            self.record(name, value)
        whole = bool(model.entries) and model.complete()
        report = self.made(call)
        assert report == (len(new), late, len(names) - len(new), whole)
        if whole:
            self.follow()
            model.close(*self.every)

    def record(self, name, value):
        model = self.model
        entry = model.find(name)
        self.events.append((self.calls, name, value))
        if value is None:
            entry.status = LOST
            model.discarded += 1
            return
        entry.status, entry.value = (TOLD if entry.status == ASKED else RETURNED), value
        model.evaluations += 1
        model.late += name >> 32 < model.number
        model.failed += not math.isfinite(value)
        if math.isfinite(value):
            rank = (self.sign * value, name, entry.x)
            if rank[:2] < model.best[:2] or model.best[1] < 0:
                model.best = rank

    def follow(self):
        """Give the shadow what was accepted since the last generation, in another order."""
        number, calls = self.model.number, [event[0] for event in self.events]
        if self.model.grown:  # only here it matters what completes the generation
            final = [event for event in self.events if event[0] == calls[-1]]
        else:
            once = Counter(event[1] for event in self.events)
            able = [e for e in self.events if once[e[1]] == 1 and e[1] >> 32 == number]
            final = [self.shuffle.choice(able)]
        before = [event for event in self.events if event not in final]
        self.shuffle.shuffle(before)
        self.shuffle.shuffle(final)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for event in losses_first(before):
                self.shadow_call([event])
            assert self.shadow.generation == number
            self.shadow_call(final)
        self.events = []
        assert fingerprint(self.shadow) == fingerprint(self.opt)

    def shadow_call(self, events):
        names, values = [event[1] for event in events], [event[2] for event in events]
        if values[0] is None:
            self.shadow.discard(names)
        else:
            self.shadow.tell(names, values)

    @rule(step=st.deferred(lambda: st.sampled_from(STEPS)))
    def make_a_call(self, step):
        """This call, or the next one that is allowed and that the model is ready for."""
        first, variant = step
        order = ORDERS[variant]
        place = order.index(first)
        order = order[place:] + order[:place]
        able = (n for n in [*filter(self.allowed.__contains__, order), *order])
        name = next(n for n in able if CALLS[n].ready(self.model))
        arguments = CALLS[name].arguments[variant]
        note(f"{name}{arguments}")
        getattr(self, name)(*arguments)

    # ---- asking

    def ask(self, n):
        candidates = self.opt.ask(n)
        again = self.shadow.ask(n)
        np.testing.assert_array_equal(candidates.ids, again.ids)
        model = self.model
        total = model.num_center + 2 * model.repeats * model.target
        expected = max(0, total - len(model.entries)) if n is None else n
        first = (model.number << 32) + len(model.entries)
        assert candidates.ids.tolist() == list(range(first, first + expected))
        for name, x in zip(candidates.ids.tolist(), candidates.x, strict=True):
            model.entries[name] = Entry(x.tobytes())

    @call()
    def ask_for_all(self):
        self.ask(None)

    @call(range(1, 6))
    def ask_for_some(self, n):
        self.ask(n)

    @call([0, -1, 1.5, "1", True])
    def ask_for_nonsense(self, n):
        self.refuses((ArgumentValueError, ArgumentTypeError), lambda: self.opt.ask(n))

    # ---- telling

    def tell(self, names, values):
        values = [values[i % len(values)] for i in range(len(names))]
        if self.strict and not np.isfinite(values).all():
            self.refuses(NonFiniteValueError, lambda: self.opt.tell(names, values))
            return
        self.settle(names, values, lambda: self.opt.tell(names, values))

    @call(SOME, VALUES, when=lambda model: model.out())
    def tell_some(self, some, values):
        self.tell(chosen(self.model.out(), some), values)

    @call(VALUES, when=lambda model: model.out())
    def tell_the_rest(self, values):
        self.tell(self.model.out(), values)

    @call(SOME, WITH_BAD, when=lambda model: model.out())
    def tell_bad_values(self, some, values):
        self.tell(chosen(self.model.out(), some), values)

    @call(WITH_BAD)
    def ask_and_tell_a_generation(self, values):
        self.ask(None)
        if self.model.out():
            self.tell(self.model.out(), values)

    @call(SOME, VALUES, when=lambda model: model.late_ones(ASKED))
    def tell_late(self, some, values):
        self.tell(chosen(self.model.late_ones(ASKED), some), values)

    @call(SOME, VALUES, when=lambda model: model.out() and model.late_ones(ASKED))
    def tell_late_and_open_together(self, some, values):
        self.tell(chosen([*self.model.late_ones(ASKED), *self.model.out()], some), values)

    @call(SOME, VALUES, when=lambda model: model.out(LOST) or model.late_ones(LOST))
    def tell_what_was_given_up(self, some, values):
        self.tell(chosen([*self.model.out(LOST), *self.model.late_ones(LOST)], some), values)

    @call(SOME, when=lambda model: model.known())
    def tell_again(self, some):
        names = chosen(self.model.known(), some)
        values = [self.model.find(name).value for name in names]
        before = pickled(self.opt)
        report = self.made(lambda: self.opt.tell(names, values))
        assert report == (0, 0, len(names), False)
        assert pickled(self.opt) == before

    # ---- telling what must be refused, in the company of what is right

    def among_good_ones(self, place, name, value):
        names = self.model.out()
        values = [1.0] * len(names)
        place %= len(names) + 1
        names.insert(place, name)
        values.insert(place, value)
        return lambda: self.opt.tell(names, values)

    @call(SOME, [7.5, math.nan], when=lambda model: model.known())
    def tell_another_value(self, some, value):
        name = chosen(self.model.known(), some)[0]
        told = self.model.find(name).value
        if value == told or (math.isnan(value) and (math.isnan(told) or self.strict)):
            return
        self.refuses(DuplicateTellError, self.among_good_ones(some[1], name, value))

    @call(PLACES, [0, 1, 1 << 31, 1 << 32, -(1 << 40)])
    def tell_an_unknown_id(self, place, beyond):
        name = (self.model.number << 32) + len(self.model.entries) + beyond
        self.refuses(UnknownCandidateError, self.among_good_ones(place, name, 1.0))
        self.refuses(UnknownCandidateError, lambda: self.opt.discard([*self.model.out(), name]))

    @call(PLACES, when=lambda model: model.number > LATE_WINDOW)
    def tell_a_stale_id(self, place):
        name = (self.model.number - LATE_WINDOW - 1) << 32
        self.refuses(StaleCandidateError, self.among_good_ones(place, name, 1.0))

    @call([[], 1j, "1", None, [[1.0]], [None], np.ones(99)], when=lambda model: model.out())
    def tell_nonsense(self, wrong):
        names = self.model.out()
        self.refuses((ArgumentValueError, ArgumentTypeError), lambda: self.opt.tell(names, wrong))

    # ---- discarding

    def discard(self, names):
        self.settle(names, [None] * len(names), lambda: self.opt.discard(names))

    @call(SOME, when=lambda model: model.entries)
    def discard_some(self, some):
        self.discard(chosen(list(self.model.entries), some))

    @call(SOME, when=lambda model: model.earlier)
    def discard_late(self, some):
        self.discard(chosen([n for part in self.model.earlier.values() for n in part], some))

    # ---- keeping

    def replaced(self, made):
        assert fingerprint(made) == fingerprint(self.opt)
        self.opt, old = made, self.opt
        before = pickled(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old.ask(3)  # whatever happens to the old one is nothing to the new one
            old.discard(old.pending[::2])
        assert pickled(made) == before
        self.center = made.center

    @call()
    def save_and_load(self):
        path = os.path.join(self.folder, "run.npz")
        self.opt.save(path)
        self.replaced(BGS.load(path))

    @call([copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
    def copy_or_pickle(self, through):
        self.replaced(through(self.opt))

    # ---- what always holds

    @invariant()
    def center_and_sigma_are_finite_and_move_with_the_generation_only(self):
        opt = self.opt
        assert np.isfinite(opt.center).all()
        assert np.isfinite(opt.average).all()
        assert 0 < opt.sigma < math.inf
        if opt.generation == getattr(self, "generation", 0):
            assert opt.center.tobytes() == self.center.tobytes()
            assert opt.sigma == self.sigma
        self.generation, self.center, self.sigma = opt.generation, opt.center, opt.sigma

    @invariant()
    def outputs_are_read_only_and_inside_the_bounds(self):
        opt = self.opt
        for point in (opt.center, opt.average, opt.best.x):
            assert not point.flags.writeable
            if opt._config.low is not None:
                assert (point >= BOX[0]).all()
                assert (point <= BOX[1]).all()

    @invariant()
    def the_generation_is_the_one_of_the_model(self):
        assert self.opt.generation == self.model.number

    @invariant()
    def counters_add_up(self):
        model, counts = self.model, dict(self.opt.counts)
        assert counts.pop("skipped") <= model.number
        assert counts == {"evaluations": model.evaluations, "late": model.late,
                          "failed": model.failed, "discarded": model.discarded}  # fmt: skip
        assert self.opt.num_evaluations == model.evaluations

    @invariant()
    def best_is_the_least_finite_value_told_and_its_point(self):
        best = self.opt.best
        loss, _, x = self.model.best
        if not x:
            assert math.isnan(best.value)
            assert best.x.tobytes() == self.opt.center.tobytes()
        else:
            assert best.value.hex() == (self.sign * loss).hex()
            assert best.x.tobytes() == x

    @invariant()
    def pending_is_what_is_out_with_the_points_that_were_asked(self):
        pending = self.opt.pending
        names = self.model.out()
        assert pending.ids.tolist() == names
        if self.seen == (self.opt, names):  # neither has changed: the points were compared
            return
        self.seen = self.opt, names
        points = [x.tobytes() for x in pending.x]
        assert points == [self.model.entries[n].x for n in names]

    @invariant()
    def history_has_a_row_for_each_closed_generation(self):
        assert self.opt.history["generation"].tolist() == list(range(self.model.number))


def order_of(variant):
    """The calls in an order of its own; what takes long is not in every one."""
    rare = {"save_and_load": 5, "copy_or_pickle": 3}
    names = [name for name in CALLS if variant % rare.get(name, 1) == 0]
    return PREPARED.sample(names, len(names))


ORDERS = [order_of(variant) for variant in range(VARIANTS)]
STEPS = [(name, variant) for variant in range(VARIANTS) for name in ORDERS[variant]]
MIXTURES = list(mixtures())


@pytest.mark.parametrize("runs", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_sequence_of_calls_keeps_every_promise(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(Calls, "folder", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # durable is not the matter here
    run_state_machine_as_test(
        Calls,
        settings=settings(
            max_examples=runs,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
