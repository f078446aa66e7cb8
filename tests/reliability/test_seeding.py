"""The same seed gives the same bits: again, elsewhere, and whatever else draws random numbers.

The 24 runs of one process are made together; four new processes make them again, each under an
environment of its own. The vector is longer than a tile of the sums and than one block of QR.
"""

import functools
import itertools
import json
import platform
import random
from collections.abc import Callable

import numpy as np
import pytest

from bgs_opt import BGS
from tests.helpers import OLDER_CPU, contents, digest, python

SAMPLERS = ("hadamard", "rademacher", "gaussian", "qr")
OPTIMIZERS = ("sgd", "adam", "clipup")
DTYPES = ("float32", "float64")
COMBINATIONS = list(itertools.product(SAMPLERS, OPTIMIZERS, DTYPES))
DIM, GENERATIONS = 300, 4

ENVIRONMENTS = {
    "spawned": {"PYTHONHASHSEED": "random"},
    "one thread": {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "two threads": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    "older CPU": OLDER_CPU,
}
QR_RTOL = {"float32": 1e-6, "float64": 1e-12}
"""QR is the one step whose rounding differs between kernels; relative to the largest entry."""

each_combination = pytest.mark.parametrize(
    "combination", COMBINATIONS, ids=["-".join(c) for c in COMBINATIONS]
)


def loss(x: np.ndarray) -> float:
    """An ill-conditioned quadratic, in float64 whatever x is."""
    weights = np.linspace(1.0, 4.0, x.size)
    return float(np.sum(weights * np.square(x.astype(np.float64) - 0.25)))


def run(combination: tuple[str, str, str], seed: object, between: Callable = bool) -> BGS:
    """A few generations; ``between`` is called between any two calls."""
    sampler, optimizer, dtype = combination
    between()
    opt = BGS(
        np.linspace(-1, 1, DIM, dtype=dtype), 0.1, num_directions=12, sampler=sampler,
        optimizer=optimizer, seed=seed,
    )  # fmt: skip
    while opt.generation < GENERATIONS:
        between()
        candidates = opt.ask()
        between()
        opt.tell(candidates, [loss(x) for x in candidates])
    return opt


@functools.cache
def reference(combination: tuple[str, str, str]) -> BGS:
    return run(combination, 7)


def report() -> None:
    """Print what a new process is asked for: digests and centers of all combinations."""
    rng = np.random.default_rng(0)
    print(json.dumps({
        "hash": hash("bgs_opt"),
        "product": (rng.standard_normal(32) @ rng.standard_normal((32, 301))).tobytes().hex(),
        "digests": [digest(reference(c)) for c in COMBINATIONS],
        "centers": [reference(c).center.tolist() for c in COMBINATIONS],
    }))  # fmt: skip


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, dict]:
    code = "from tests.reliability.test_seeding import report; report()"
    return {name: json.loads(python(code, **env)) for name, env in ENVIRONMENTS.items()}


@each_combination
def test_the_same_seed_gives_the_same_bits_again_and_another_seed_does_not(combination):
    assert contents(run(combination, 7)) == contents(reference(combination))
    assert not np.array_equal(run(combination, 8).center, reference(combination).center)


@each_combination
def test_a_generator_and_an_int_are_each_one_function_of_the_seed(combination):
    first, second, advanced = (np.random.default_rng(7) for _ in range(3))
    from_generator = contents(run(combination, first))
    assert from_generator == contents(run(combination, second))
    # documented: a Generator is advanced by two 64-bit draws and no more
    advanced.bit_generator.advance(2)
    assert first.bit_generator.state == second.bit_generator.state
    assert first.bit_generator.state == advanced.bit_generator.state
    # documented: an int is hashed as SeedSequence does it
    from_int = contents(run(combination, np.int64(7)))
    assert from_int == contents(reference(combination))
    assert from_int == contents(run(combination, np.random.SeedSequence(7)))
    assert from_int["center"] != from_generator["center"]


@each_combination
def test_the_global_random_state_is_neither_read_nor_written(combination):
    global_state = np.random.mtrand._rand
    kept: list = []

    def disturb() -> None:
        if kept:  # nothing was drawn since the last call
            assert random.getstate() == kept[0]
            np.testing.assert_equal(global_state.get_state(), kept[1])
        random.seed(len(kept))
        random.random()
        global_state.seed(1234)
        global_state.standard_normal()
        kept[:] = [random.getstate(), global_state.get_state()]

    saved = random.getstate(), global_state.get_state()
    try:
        opt = run(combination, 7, between=disturb)
        assert random.getstate() == kept[0]
        np.testing.assert_equal(global_state.get_state(), kept[1])
    finally:
        random.setstate(saved[0])
        global_state.set_state(saved[1])
    assert contents(opt) == contents(reference(combination))


@each_combination
def test_a_new_process_with_a_random_hash_seed_gives_the_same_bits(combination, elsewhere):
    assert elsewhere["spawned"]["hash"] != hash("bgs_opt")
    index = COMBINATIONS.index(combination)
    assert elsewhere["spawned"]["digests"][index] == digest(reference(combination))


@each_combination
def test_one_and_two_blas_threads_give_the_same_bits(combination, elsewhere):
    index = COMBINATIONS.index(combination)
    one, two = (elsewhere[name]["digests"][index] for name in ("one thread", "two threads"))
    assert one == two


@each_combination
def test_an_older_cpu_gives_the_same_bits_but_for_the_rounding_of_qr(combination, elsewhere):
    sampler, _, dtype = combination
    index = COMBINATIONS.index(combination)
    older = elsewhere["older CPU"]
    if sampler == "qr":
        center = reference(combination).center
        largest = float(np.abs(center).max())
        atol = QR_RTOL[dtype] * largest
        np.testing.assert_allclose(older["centers"][index], center, rtol=0, atol=atol)
    else:
        assert older["digests"][index] == elsewhere["one thread"]["digests"][index]


def test_the_blas_kernel_of_the_older_cpu_is_another_one(elsewhere):
    """Else the test before this one shows nothing."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    switchable = "DYNAMIC_ARCH" in blas.get("openblas configuration", "")
    differs = elsewhere["older CPU"]["product"] != elsewhere["one thread"]["product"]
    assert differs == (switchable and platform.machine() in {"x86_64", "AMD64"})
