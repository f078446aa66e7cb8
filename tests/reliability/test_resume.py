"""A run that was cut anywhere between two calls and loaded again is the uninterrupted one.

The uninterrupted run is recorded as a script of calls, with values of the rows that ``ask``
gave. A resumed run plays the rest of the script with rows and seeds from ``pending``, so that
it evaluates again what the crash has lost; only values that come late are taken from the script.
"""

import copy
import functools
import json
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgs_opt import (
    BGS,
    SGD,
    Adam,
    Candidates,
    CumulativeAdaptation,
    ExponentialDecay,
    Factorised,
    LinearDecay,
    Options,
)
from bgs_opt.errors import BGSWarning
from tests.helpers import contents, digest, python

LENGTH = 60
CUTS = range(0, 50, 2)
ENDINGS = ("os._exit", "SIGKILL")
BEFORE_ASK, AFTER_ASK, AFTER_PARTIAL_TELL = "before ask", "after ask", "after a partial tell"

Action = tuple[str, Any, list[float]]  # what, ids or how many, values


@dataclass(frozen=True)
class Configuration:
    """How a run is made, and what its objective is like."""

    make: Callable[[], BGS]
    noise: float = 0.0  # as a function of the candidate's seed
    failing: bool = False  # some values are NaN, some evaluations are lost
    extra: int = 0  # candidates beyond what a generation needs; as many come late
    sign: int = 1


CONFIGURATIONS = {
    "defaults": Configuration(
        lambda: BGS(np.linspace(-1, 1, 5), 0.3, num_directions=6, seed=11), failing=True
    ),
    "automatic": Configuration(
        lambda: BGS(np.linspace(-1, 1, 4), 0.3, optimizer="auto", budget=400, seed=12)
    ),
    "automatic on noise": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 6), 0.3, sampler="gaussian", optimizer="auto", budget=2000, seed=13
        ),
        noise=0.5,
    ),
    "repeats and baseline": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 7), 0.3, num_directions=5, optimizer=Adam(beta2=0.99), seed=14,
            options=Options(repeats=2, acceptance=0.5, center_evaluations=2),
        ),
        noise=0.2, failing=True,
    ),
    "averaging": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 9, dtype=np.float32), 0.3, num_directions=8, sampler="hadamard",
            sigma_rule=ExponentialDecay(0.95), maximize=True, seed=15,
            options=Options(averaging=0.9, weight_decay=0.01, center_evaluations=1,
                            learning_rate_schedule=LinearDecay(8)),
        ),
        failing=True, sign=-1,
    ),
    "cumulative adaptation": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 6), 0.3, sampler="rademacher", optimizer=SGD(),
            sigma_rule=CumulativeAdaptation(), seed=16, options=Options(common_seeds="none"),
        ),
        noise=0.1,
    ),
    "late pairs within bounds": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 5), 0.5, num_directions=4, bounds=([-1.1] * 5, 1.2), seed=17,
            options=Options(late="use", scale=np.linspace(0.5, 2, 5)),
        ),
        extra=5,
    ),
    "factorised": Configuration(
        lambda: BGS(
            np.linspace(-1, 1, 9), 0.3, sampler=Factorised(), layout={"w": (2, 3), "b": (3,)},
            selection="max", bounds=(-1, 1), seed=np.random.default_rng(18),
            options=Options(bound_mode="clip", scale={"w": 0.5, "b": 1.5}, on_failure="drop"),
        ),
        failing=True, extra=2,
    ),
}  # fmt: skip


@dataclass
class Script:
    """The uninterrupted run: its calls, where it stood before each, and how it ended.

    ``states`` has the run before each cut, pickled, and how many warnings it had given.
    """

    actions: list[Action] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    states: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    end_digest: str = ""

    @property
    def middle(self) -> int:
        """A cut in the middle of a generation."""
        return self.places.index(AFTER_PARTIAL_TELL, LENGTH // 2)


def evaluate(name: str, candidates: Candidates) -> list[float]:
    this = CONFIGURATIONS[name]
    values = []
    seeds = candidates.seeds if this.noise else np.zeros(len(candidates))
    for number, x, seed in zip(candidates.ids.tolist(), candidates, seeds.tolist(), strict=True):
        value = float(np.sum(np.arange(1, x.size + 1) * (x.astype(np.float64) - 0.4) ** 2))
        value += this.noise * (seed / 2**32 - 0.5)
        failed = this.failing and (number & 0xFFFF) % 11 == 3
        values.append(float("nan") if failed else this.sign * value)
    return values


def called(opt: BGS, what: str, which: Any, values: list[float]) -> list[str]:
    """One call of the script; the warnings of bgs_opt that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", BGSWarning)
        if what == "ask":
            opt.ask(which)
        elif what == "discard":
            opt.discard(which)
        else:
            opt.tell(which, values)
    return [f"{warning.category.__name__}: {warning.message}" for warning in caught]


@functools.cache
def recorded(name: str) -> Script:
    """Make up the script while the run goes on: parts of random size in random order."""
    this, script = CONFIGURATIONS[name], Script()
    rng = np.random.default_rng(list(name.encode()))
    opt, out = this.make(), {}

    def act(what: str, which: Any, values: list[float]) -> None:
        place = BEFORE_ASK if not len(opt.pending) else AFTER_PARTIAL_TELL
        if place == AFTER_PARTIAL_TELL and script.actions[-1][0] == "ask":
            place = AFTER_ASK
        if len(script.places) in CUTS:
            script.states[len(script.places)] = pickle.dumps(opt), len(script.warned)
        script.places.append(place)
        script.actions.append((what, which, values))

    while len(script.actions) < LENGTH:
        here = [number for number in out if number >> 32 == opt.generation]
        late = [number for number in out if number >> 32 != opt.generation]
        if late and rng.random() < 0.6:
            what, which = "late", late[:3]
        elif here:
            count = int(rng.integers(1, 2 + len(here) // 2))
            what, which = "tell", rng.permutation(here)[:count].tolist()
            if this.failing and len(here) > 5 and rng.random() < 0.1:
                what, which = "discard", which[:1]
        else:
            for number in (None, this.extra) if this.extra else (None,):
                act("ask", number, [])
                new = opt.ask(number)
                out |= zip(new.ids.tolist(), evaluate(name, new), strict=True)
            continue
        values = [out.pop(number) for number in which]
        act(what, which, values)
        script.warned += called(opt, what, which, values)
    script.end, script.end_digest = contents(opt), digest(opt)
    return script


def play(opt: BGS, name: str, actions: list[Action]) -> list[str]:
    """The rest of the script; what is still out comes from ``pending``."""
    warned = []
    for what, which, values in actions:
        if what == "tell":
            pending = opt.pending
            place = {number: index for index, number in enumerate(pending.ids.tolist())}
            picked = pending[[place[number] for number in which]]
            again = evaluate(name, picked)
            np.testing.assert_array_equal(again, values)
            warned += called(opt, what, picked, again)
        else:
            warned += called(opt, what, which, values)
    return warned


def started(name: str, cut: int) -> tuple[BGS, list[str]]:
    opt = CONFIGURATIONS[name].make()
    return opt, play(opt, name, recorded(name).actions[:cut])


each_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)


@each_configuration
def test_the_cuts_are_of_every_kind_and_the_script_is_a_real_run(name):
    script, this = recorded(name), CONFIGURATIONS[name]
    assert {script.places[cut] for cut in CUTS} == {BEFORE_ASK, AFTER_ASK, AFTER_PARTIAL_TELL}
    counts = dict(script.end["counts"])
    assert script.end["generation"] >= 6
    assert (counts["late"] > 0) == (this.extra > 0)
    assert (counts["failed"] > 0) == this.failing == (counts["discarded"] > 0)
    assert script.end["center"] != contents(this.make())["center"]


@each_configuration
@pytest.mark.parametrize("cut", CUTS)
def test_a_loaded_run_ends_like_the_uninterrupted_one(name, cut, tmp_path):
    script = recorded(name)
    state, number = script.states[cut]
    opt, warned = pickle.loads(state), script.warned[:number]
    opt.save(tmp_path / "run.npz")
    loaded = BGS.load(tmp_path / "run.npz")
    assert contents(loaded) == contents(opt)
    warned += play(loaded, name, script.actions[cut:])
    assert contents(loaded) == script.end
    assert warned == script.warned  # once a run, also where the run was cut


@each_configuration
def test_saving_and_loading_all_the_time_changes_nothing(name, tmp_path):
    path, opt = tmp_path / "run.npz", CONFIGURATIONS[name].make()
    for start in range(0, LENGTH, 3):
        opt.save(path)
        opt = BGS.load(str(path))
        play(opt, name, recorded(name).actions[start : start + 3])
    assert contents(opt) == recorded(name).end


@each_configuration
@pytest.mark.parametrize(
    "duplicate",
    [
        lambda opt: pickle.loads(pickle.dumps(opt)),
        lambda opt: pickle.loads(pickle.dumps(opt, protocol=2)),
        copy.deepcopy,
    ],
    ids=["pickle", "pickle protocol 2", "deepcopy"],
)
def test_a_copy_and_its_original_go_on_alike_and_apart(name, duplicate):
    script = recorded(name)
    opt, _ = started(name, script.middle)
    twin = duplicate(opt)
    before = contents(opt)
    assert contents(twin) == before
    play(twin, name, script.actions[script.middle :])
    assert contents(twin) == script.end
    assert contents(opt) == before
    play(opt, name, script.actions[script.middle :])
    assert contents(opt) == script.end


@each_configuration
def test_candidates_kept_from_before_the_crash_may_be_told_after_it(name, tmp_path):
    script = recorded(name)
    opt, _ = started(name, script.middle)
    opt.save(tmp_path / "run.npz")
    kept = pickle.loads(pickle.dumps(opt.pending))
    loaded = BGS.load(tmp_path / "run.npz")
    assert kept.x.tobytes() == loaded.pending.x.tobytes()
    values = [float(index) for index in range(len(kept))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BGSWarning)
        opt.tell(opt.pending, values)
        loaded.tell(kept, values)
    assert contents(loaded) == contents(opt)


# ---- processes that end without a word


def crash(folder: str) -> None:
    """Start each run in a process of its own, which saves, goes on and dies."""
    for index, name in enumerate(CONFIGURATIONS):
        for ending in ENDINGS:
            path, cut = Path(folder, f"{index}-{ending}.npz"), recorded(name).middle
            child = os.fork()
            if not child:
                try:
                    opt, _ = started(name, cut)
                    opt.save(path)
                    if ending == "os._exit":
                        os._exit(7)
                    play(opt, name, recorded(name).actions[cut:])  # lost with the process
                    signal.pause()
                finally:
                    os._exit(1)
            if ending == "SIGKILL":
                limit = time.monotonic() + 60
                while not path.exists() and time.monotonic() < limit:
                    time.sleep(0.001)
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status) not in (7, -signal.SIGKILL):
                sys.exit(f"{name}: the child ended with {status}")


def inherit(folder: str) -> None:
    """Load what they left, go on, and print how it ended."""
    out = {}
    for index, name in enumerate(CONFIGURATIONS):
        for ending in ENDINGS:
            opt = BGS.load(Path(folder, f"{index}-{ending}.npz"))
            play(opt, name, recorded(name).actions[recorded(name).middle :])
            out[f"{name}, {ending}"] = digest(opt)
    print(json.dumps(out))


@pytest.fixture(scope="module")
def inherited(tmp_path_factory) -> dict[str, str]:
    folder, module = tmp_path_factory.mktemp("crashed"), "tests.reliability.test_resume"
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # fork wants no others
    for job in ("crash", "inherit"):
        code = f"import sys; from {module} import {job}; {job}(sys.argv[1])"
        printed = python(code, folder, PYTHONHASHSEED="random", **one_thread)
    return json.loads(printed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the crashing processes are forked")
@each_configuration
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_new_process_continues_what_a_dead_one_saved(name, ending, inherited):
    assert inherited[f"{name}, {ending}"] == recorded(name).end_digest
