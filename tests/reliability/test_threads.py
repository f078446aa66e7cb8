"""R12: eight threads on one BGS: nothing is lost, nothing twice, and the bits of a serial run.

The interpreter is made to switch threads every few bytecodes, so that a step that is not under
the lock shows.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bgs_opt import BGS, Options
from bgs_opt.errors import DuplicateTellError, StaleCandidateError
from tests.helpers import fingerprint, sphere

THREADS, ROUNDS, FEWER = 8, 200, 60  # rounds of one kind of run and of its variants
SAMPLERS = ["qr", "hadamard", "gaussian", "gaussian_table", "rademacher"]


@pytest.fixture(autouse=True)
def eager_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(work):
    """Run ``work(number)`` in eight threads that start at the same moment; their results."""
    barrier = threading.Barrier(THREADS)

    def start(number):
        barrier.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(timeout=120) for future in
                [pool.submit(start, number) for number in range(THREADS)]]  # fmt: skip


def make(**settings):
    return BGS(np.linspace(-1, 1, 6), 0.1, seed=9, **settings)


@pytest.mark.parametrize(
    ("sampler", "rounds"), [("qr", ROUNDS), *((sampler, FEWER) for sampler in SAMPLERS[1:])]
)
def test_one_generation_told_by_many_threads_has_the_bits_of_a_serial_run(sampler, rounds):
    """As many pairs as asks: all in one generation, and the last value told closes it."""
    pairs = THREADS * rounds // 2
    opt, serial = (make(sampler=sampler, num_directions=pairs) for _ in range(2))

    def work(number):
        seen = []
        for _ in range(rounds):
            candidate = opt.ask(1)
            point = candidate[0]
            report = opt.tell(candidate, [sphere(point)])
            seen.append((int(candidate.ids[0]), point, int(candidate.seeds[0]), report))
        return seen

    seen = [entry for part in together(work) for entry in part]
    candidates = serial.ask()
    serial.tell(candidates, [sphere(x) for x in candidates])

    seen.sort(key=lambda entry: entry[0])
    np.testing.assert_array_equal([entry[0] for entry in seen], candidates.ids)
    np.testing.assert_array_equal([entry[1] for entry in seen], candidates.x)
    np.testing.assert_array_equal([entry[2] for entry in seen], candidates.seeds)
    assert all(entry[3][:3] == (1, 0, 0) for entry in seen)
    assert sum(entry[3].updated for entry in seen) == 1
    assert fingerprint(opt) == fingerprint(serial)


@pytest.mark.parametrize(
    ("optimizer", "late", "rounds"),
    [("clipup", "ignore", ROUNDS), ("clipup", "use", FEWER), ("auto", "ignore", FEWER)],
)
def test_counts_are_exact_when_generations_close_under_the_threads(optimizer, late, rounds):
    """A thread that slept through too many generations is told so, and nothing is counted."""
    settings = {"num_directions": 5} if optimizer == "clipup" else {}
    opt = make(optimizer=optimizer, options=Options(late=late), **settings)

    def work(number):
        asked, told, stale = [], [], 0
        for _ in range(rounds):
            candidate = opt.ask(1)
            asked.append(int(candidate.ids[0]))
            value = sphere(candidate[0])
            try:
                report = opt.tell(candidate, [value])
            except StaleCandidateError:
                stale += 1
            else:
                told.append((value, asked[-1], candidate[0], report))
        return asked, told, stale

    parts = together(work)
    asked = [name for part in parts for name in part[0]]
    told = [entry for part in parts for entry in part[1]]
    reports = [entry[3] for entry in told]
    assert len(set(asked)) == THREADS * rounds
    assert len(told) + sum(part[2] for part in parts) == THREADS * rounds
    assert opt.num_evaluations == len(told) > THREADS * rounds / 2
    assert {report.accepted for report in reports} == {1}
    assert {report.repeated for report in reports} == {0}
    assert sum(report.late for report in reports) == opt.counts["late"]
    assert sum(report.updated for report in reports) == opt.generation > 20
    assert len(opt.pending) == 0
    assert len(opt.history["generation"]) == opt.generation
    best = min(told, key=lambda entry: entry[:2])
    assert opt.best.value == best[0]
    np.testing.assert_array_equal(opt.best.x, best[2])


def test_the_same_candidates_told_by_every_thread_count_once():
    opt, serial = (make(num_directions=100) for _ in range(2))
    candidates = opt.ask()
    values = np.array([sphere(x) for x in candidates])
    serial.tell(serial.ask(), values)

    def work(number):
        order = np.random.default_rng(number).permutation(len(candidates))
        return [opt.tell(candidates[[i]], values[[i]]) for i in order]

    reports = [report for part in together(work) for report in part]
    assert sum(report.accepted for report in reports) == 200
    assert sum(report.repeated for report in reports) == 200 * (THREADS - 1)
    assert fingerprint(opt) == fingerprint(serial)


def test_of_two_values_for_a_candidate_one_is_kept_and_the_others_are_refused():
    opt = make(num_directions=100)
    candidates = opt.ask()

    def work(number):
        kept = 0
        for i in range(len(candidates) - 1):
            try:
                kept += opt.tell(candidates[[i]], [float(number)]).accepted
            except DuplicateTellError:
                continue
        return kept

    assert sum(together(work)) == len(candidates) - 1 == opt.num_evaluations


def test_asking_in_batches_hands_out_every_id_once():
    opt, serial = (make(num_directions=50) for _ in range(2))

    def work(number):
        return np.concatenate([opt.ask(1 + (number + i) % 5).ids for i in range(ROUNDS)])

    parts = together(work)
    ids = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(ids, serial.ask(len(ids)).ids)
    assert all((np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(opt.pending.ids, ids)


def test_a_run_that_is_read_saved_and_copied_meanwhile_stays_what_it_is(tmp_path):
    opt, serial = (make(num_directions=THREADS * ROUNDS // 8) for _ in range(2))
    candidates = opt.ask()
    values = np.array([sphere(x) for x in candidates])
    serial.tell(serial.ask(), values)

    def tell(places):
        for i in places:
            opt.tell(candidates[[i]], values[[i]])

    def look(number):
        for i in range(25):
            copied = pickle.loads(pickle.dumps(opt))
            # any moment is a whole one: what is not out was told, and it can go on
            out = copied.pending
            if copied.generation == 0:
                assert len(out) == len(candidates) - copied.num_evaluations
                copied.tell(out, values[out.ids])
            assert fingerprint(copied)["center"] == fingerprint(serial)["center"]
            best = opt.best.value  # read once: it may be the first value the next moment
            assert best >= values.min() or np.isnan(best)
            assert np.isfinite(opt.average).all()
            assert opt.stop() == {}
            assert opt.history["sigma"].tolist() in ([], [0.1])
            if i % 8 == 0:
                opt.save(path := tmp_path / f"{number}.npz")
                assert BGS.load(path).dim == 6

    parts = np.array_split(np.random.default_rng(1).permutation(len(candidates)), 4)
    together(lambda number: tell(parts[number]) if number < 4 else look(number))
    assert fingerprint(opt) == fingerprint(serial)


class Interrupted(pickle.Pickler):
    """Calls ``meanwhile`` once, half way: at the first array that it meets."""

    def __init__(self, file, meanwhile):
        super().__init__(file)
        self.meanwhile = [meanwhile]

    def persistent_id(self, thing):
        if isinstance(thing, np.ndarray) and self.meanwhile:
            self.meanwhile.pop()()


def test_a_pickle_is_of_one_moment_whatever_is_told_while_it_is_written():
    opt = make(num_directions=3)
    candidates = opt.ask()
    opt.tell(candidates[:2], [1.0, 2.0])
    before = fingerprint(opt)
    file = io.BytesIO()
    Interrupted(file, lambda: opt.tell(candidates[2:], [3.0, 1.0, 4.0, 1.5])).dump(opt)
    assert opt.generation == 1
    assert fingerprint(pickle.loads(file.getvalue())) == before


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_made_in_many_threads_are_those_made_in_one(sampler):
    """Two generations at once, so that a shared scratch or cache would mix them."""
    opt = make(sampler=sampler, num_directions=20)
    first = opt.ask()
    opt.tell(first, np.arange(40.0))
    second = opt.ask()
    serial = make(sampler=sampler, num_directions=20)
    expected = [serial.ask().x]
    serial.tell(np.arange(40), np.arange(40.0))
    expected.append(serial.ask().x)

    def work(number):
        for i in range(10):
            which = (number + i) % 2
            candidates = (first, second)[which]
            np.testing.assert_array_equal(candidates.x, expected[which])
            rows = np.random.default_rng(i).permutation(40)[:7]
            np.testing.assert_array_equal(candidates[rows].x, expected[which][rows])

    together(work)
