"""A checkpoint is the whole old run or the whole new one, and a damaged file is never believed.

Kills are SIGKILL to real processes. They are forked from one helper process, which has imported
everything and runs no thread; it prints what it found as JSON, once for the whole module.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import pickle
import signal
import stat
import struct
import sys
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgs_opt import (
    BGS,
    QR,
    SGD,
    Adam,
    ClipUp,
    CumulativeAdaptation,
    ExponentialDecay,
    Factorised,
    Gaussian,
    GaussianTable,
    Hadamard,
    LinearDecay,
    Options,
    Rademacher,
    checkpoint,
)
from bgs_opt.errors import BGSError, CheckpointError
from tests.helpers import contents, digest, play, python, sphere

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")


def example(seed: int = 1, generations: int = 3) -> BGS:
    """A run in the middle of a generation, with every kind of array in its state."""
    opt = BGS(
        np.linspace(-1, 1, 6), 0.2, num_directions=4, optimizer="adam", bounds=(-2, 2), seed=seed,
        options=Options(averaging=0.9, center_evaluations=1, scale=2.0, late="use"),
    )  # fmt: skip
    play(opt, generations)
    candidates = opt.ask()
    opt.tell(candidates[1:5], [4.0, 3.0, 2.0, 1.0])
    return opt


def go_on(opt: BGS) -> BGS:
    """Two more generations, the open one included."""
    for _ in range(2):
        opt.ask()
        pending = opt.pending
        opt.tell(pending, [sphere(x) for x in pending])
    return opt


def larger(generations: int = 0) -> BGS:
    """A run whose files take a while to write."""
    return play(BGS(np.zeros(20_000), 0.1, num_directions=2, seed=5), generations, rough)


def rough(x: np.ndarray) -> float:
    return float(np.sum((x - 0.5) ** 2))


@functools.cache
def good() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        example().save(path)
        return path.read_bytes()


@functools.cache
def good_contents() -> dict[str, Any]:
    return contents(example())


@pytest.fixture
def path(tmp_path) -> Path:
    """A good checkpoint, alone in its folder."""
    (tmp_path / "run.npz").write_bytes(good())
    return tmp_path / "run.npz"


def assert_only_the_old_file(path: Path) -> None:
    """The file is the good one, it loads, and nothing else lies beside it."""
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == good()
    assert contents(BGS.load(path)) == good_contents()


# ---- what is written is what is read

RUNS = {
    "new": lambda: BGS([1.0, 2.0], 0.5),
    "float32": lambda: BGS(np.ones(3, np.float32), 0.5, seed=2, maximize=True),
    "qr": lambda: BGS(np.ones(5), 0.1, sampler=QR(), optimizer=SGD(0.5), selection="max"),
    "hadamard": lambda: BGS(np.ones(5), 0.1, sampler=Hadamard(), optimizer=ClipUp(0.5, 3.0)),
    "gaussian": lambda: BGS(np.ones(5), 0.1, sampler=Gaussian(), selection=0.25),
    "table": lambda: BGS(np.ones(5), 0.1, sampler=GaussianTable(), sigma_rule=LinearDecay(9)),
    "rademacher": lambda: BGS(
        np.ones(5), 0.1, sampler=Rademacher(), optimizer=SGD(),
        sigma_rule=CumulativeAdaptation(2.0),
    ),
    "factorised": lambda: BGS(
        np.ones(8), 0.1, sampler=Factorised(), layout={"w": (2, 3), "b": (2,)},
        optimizer=Adam(0.8, 0.9, 1e-6), sigma_rule=ExponentialDecay(0.9),
        options=Options(scale={"w": 2.0, "b": 0.5}, repeats=2, acceptance=-1.0),
    ),
    "open bounds": lambda: BGS(np.ones(3), 0.1, bounds=([-np.inf, 0, 1], np.inf)),
    "automatic": lambda: BGS(np.ones(5), 0.1, optimizer="auto", budget=500),
    "orthogonal": lambda: BGS(
        np.ones(300), 0.1, optimizer="auto", seed=1, options=Options(noisy=True)
    ),
    "subnormal": lambda: BGS([5e-324, -0.0, 1e150], 1e-3, options=Options(min_sigma=1e-308)),
    "in the middle": example,
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_what_is_loaded_is_what_was_saved_and_saves_as_the_same_bytes(name, tmp_path):
    opt = RUNS[name]()
    for step in range(2):
        opt.save(tmp_path / "first")
        loaded = BGS.load(tmp_path / "first")
        assert contents(loaded) == contents(opt)
        loaded.save(tmp_path / "second")
        assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
        if not step:
            go_on(opt)


def test_equal_runs_give_equal_files(tmp_path):
    example().save(tmp_path / "run.npz")
    assert (tmp_path / "run.npz").read_bytes() == good()


def test_numpy_reads_the_arrays_without_pickle(path):
    with np.load(path, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        centers = [a for a in arrays.values() if a.tobytes() == example().center.tobytes()]
    assert header["format"] == checkpoint.FORMAT
    assert centers


def test_a_subclass_loads_as_itself(path):
    class Mine(BGS):
        pass

    assert type(Mine.load(path)) is Mine


# ---- damaged files

LENGTHS = sorted({0, 1, 4, 21, 22, len(good()) - 1, len(good()) - 22, len(good()) - 23}) + [
    len(good()) * eighth // 9 for eighth in range(1, 9)
]


def test_there_are_sixteen_lengths():
    assert len(set(LENGTHS)) == 16


@pytest.mark.parametrize("length", LENGTHS)
def test_a_truncated_file_is_refused(length, path):
    path.write_bytes(good()[:length])
    with pytest.raises(CheckpointError, match=r"run\.npz") as caught:
        BGS.load(path)
    assert isinstance(caught.value, BGSError)
    assert isinstance(caught.value, ValueError)


def flips() -> list[tuple[int, int]]:
    """32 bits anywhere, 32 among names, sizes and offsets: the archive's own directory."""
    rng = np.random.default_rng(64)
    directory = len(good()) - good().index(b"PK\x01\x02")
    places = rng.choice(8 * len(good()), 32, replace=False).tolist()
    places += (8 * len(good()) - 1 - rng.choice(8 * directory, 32, replace=False)).tolist()
    return [divmod(place, 8) for place in places]


@pytest.mark.parametrize(("at", "bit"), flips())
def test_a_flipped_bit_is_refused_or_changes_nothing(at, bit, path):
    damaged = bytearray(good())
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        loaded = BGS.load(path)
    except CheckpointError:
        return
    assert contents(loaded) == good_contents()


def test_bits_flipped_in_the_numbers_themselves_are_refused(path):
    """Here no flip is harmless: the entries' checksums cover every bit."""
    start = good().index(np.ascontiguousarray(example().center).tobytes())
    for bit in range(0, 64 * 6, 13):
        damaged = bytearray(good())
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            BGS.load(path)


# ---- files made to look right


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression, compresslevel=1) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def parsed(entries: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a good file."""
    arrays = {name[:-4]: np.load(io.BytesIO(data)) for name, data in entries.items()}
    return json.loads(arrays.pop("header").tobytes()), arrays


def signed(body: str, arrays: dict[str, np.ndarray], **other: Any) -> bytes:
    """A file with a correct checksum."""
    total = hashlib.sha256(body.encode())
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    header = {"format": checkpoint.FORMAT, "sha256": total.hexdigest(), "body": body} | other
    head = np.frombuffer(json.dumps(header).encode(), np.uint8)
    return zipped(
        {f"{name}.npy": npy(array) for name, array in {"header": head, **arrays}.items()}
    )


def test_the_forgeries_below_are_right_but_for_what_they_change(path):
    header, arrays = parsed(entries_of(good()))
    path.write_bytes(signed(header["body"], arrays))
    assert contents(BGS.load(path)) == good_contents()


def with_header(**changes: Any) -> Callable[[dict[str, bytes]], bytes]:
    def forge(entries: dict[str, bytes]) -> bytes:
        header, arrays = parsed(entries)
        return signed(header["body"], arrays, **changes)

    return forge


def with_body(change: Callable[[str], str]) -> Callable[[dict[str, bytes]], bytes]:
    def forge(entries: dict[str, bytes]) -> bytes:
        header, arrays = parsed(entries)
        assert change(header["body"]) != header["body"]
        return signed(change(header["body"]), arrays)

    return forge


def state_of(body: str) -> Any:
    return json.loads(body)["state"]


def with_entry(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], bytes]:
    return lambda entries: zipped({**entries, name: change(entries.get(name, b""))})


def claiming(shape: str, dtype: str = "<f8", order: str = "False") -> bytes:
    """The head of a .npy entry that claims a shape, with a few numbers behind it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117)
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(text) + 1)
        + f"{text}\n".encode()
        + b"12345678"
    )


def without(name: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda entries: zipped({k: v for k, v in entries.items() if k != name})


def swapped(entries: dict[str, bytes]) -> bytes:
    one = entries[first := "a0.npy"]
    second = next(n for n, data in entries.items() if len(data) == len(one) and data != one)
    return zipped({**entries, first: entries[second], second: entries[first]})


def repeated(entries: dict[str, bytes]) -> bytes:
    """One stored entry that the directory lists fifty times."""
    out = io.BytesIO(zipped(entries))
    with zipfile.ZipFile(out, "a") as archive:
        archive.filelist *= 50
        archive.comment = b"written again"
    return out.getvalue()


def lying(entries: dict[str, bytes]) -> bytes:
    """The directory claims four gigabytes for the first entry."""
    data = bytearray(zipped(entries))
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    return bytes(data)


FORGERIES: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "an empty file": (lambda _: b"", "damaged"),
    "text": (lambda _: b"generation 3\n" * 99, "damaged"),
    "another archive": (lambda _: zipped({"readme.txt": b"hello"}), "an archive with readme.txt"),
    "an archive of nothing": (lambda _: zipped({}), "without a header"),
    "an older format": (with_header(format=0), "expected format 1; got 0"),
    "a newer format": (with_header(format=2), "expected format 1; got 2"),
    "a format of another type": (with_header(format="1"), "expected format 1"),
    "no format": (lambda e: signed(parsed(e)[0]["body"], {}, format=None), "format"),
    "another checksum": (with_header(sha256="0" * 64), "checksum"),
    "no header": (without("header.npy"), "header"),
    "a missing array": (without("a0.npy"), "damaged"),
    "an array too many": (with_entry("a99.npy", lambda _: npy(np.ones(3))), "checksum"),
    "two arrays exchanged": (swapped, "checksum"),
    "an array of another shape": (
        with_entry("a0.npy", lambda data: npy(np.load(io.BytesIO(data))[None])), "checksum"
    ),
    "an array of another type": (
        with_entry("a0.npy", lambda data: npy(np.load(io.BytesIO(data)).view(np.int64))),
        "checksum",
    ),
    "compressed entries": (lambda e: zipped(e, zipfile.ZIP_DEFLATED), "claims"),
    "a bomb": (
        lambda e: zipped({**e, "b.npy": npy(np.zeros(8_000_000))}, zipfile.ZIP_DEFLATED), "claims"
    ),
    "one entry listed fifty times": (repeated, "more than its size"),
    "four gigabytes in the directory": (lying, "claims"),
    "an exabyte in an entry": (with_entry("a0.npy", lambda _: claiming("(2**60,)")), "damaged"),
    "a petabyte in an entry": (
        with_entry("a0.npy", lambda _: claiming(f"({10**15},)")), "claims shape"
    ),
    "a shape that overflows": (
        with_entry("a0.npy", lambda _: claiming(f"({2**32}, {2**32})")), "claims shape"
    ),
    "a negative shape": (with_entry("a0.npy", lambda _: claiming("(-1, -1)")), "damaged"),
    "complex numbers": (with_entry("a0.npy", lambda _: claiming("(0,)", "<c16")), "claims shape"),
    "dates": (with_entry("a0.npy", lambda _: claiming("(1,)", "<M8[s]")), "claims shape"),
    "strings": (with_entry("a0.npy", lambda _: claiming("(2,)", "<U1")), "claims shape"),
    "Fortran's order": (
        with_entry("a0.npy", lambda _: claiming("(1,)", order="True")), "claims shape"
    ),
    "a class it does not know": (
        with_body(lambda body: body.replace('"!": "Options"', '"!": "os.system"')), "damaged"
    ),
    "a field too many": (
        with_body(lambda body: body.replace('"sigma": ', '"more": 1, "sigma": ', 1)), "damaged"
    ),
    "an option out of range": (
        with_body(lambda body: body.replace('"repeats": 1', '"repeats": -1')), "repeats"
    ),
    "a state in the place of the description": (
        with_body(lambda body: json.dumps(dict.fromkeys(("config", "state"), state_of(body)))),
        "expected a run",
    ),
    "nothing in it": (with_body(lambda _: "null"), "damaged"),
    "nesting without end": (with_body(lambda _: "[" * 100_000), "damaged"),
    "an array that is not there": (
        with_body(lambda body: body.replace('"name": "a0"', '"name": "a77"')), "damaged"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_is_refused_and_costs_no_memory(name, path):
    forge, message = FORGERIES[name]
    path.write_bytes(forge(entries_of(good())))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            BGS.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6


def replaced(**changes: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    return lambda config, state: (config, dataclasses.replace(state, **changes))


def described(**changes: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    return lambda config, state: (dataclasses.replace(config, **changes), state)


def opened(**changes: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    return lambda config, state: (
        config,
        dataclasses.replace(state, open=dataclasses.replace(state.open, **changes)),
    )


MISFITS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "another dim": described(dim=7),
    "another dtype": described(dtype="<f4"),
    "bounds of another length": described(low=np.zeros(7)),
    "a scale of another length": described(scale=np.ones(5)),
    "a longer center": replaced(center=np.ones(7)),
    "a center of another dtype": replaced(center=np.ones(6, np.float32)),
    "a center of two dimensions": replaced(center=np.ones((6, 1))),
    "a center that is no array": replaced(center=1.5),
    "a shorter best point": replaced(best_x=np.ones(5)),
    "an average of another dtype": replaced(average=np.ones(6, np.float32)),
    "an optimizer of another length": replaced(
        optimizer={"first": np.ones(7), "second": np.ones(7), "steps": 3}
    ),
    "an open generation around another center": opened(center=np.ones(5)),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_file_whose_parts_do_not_fit_together_is_refused(name, path):
    """Its checksum is right: a file of another run, put together by hand."""
    saved = example().__getstate__()
    checkpoint.write(path, *MISFITS[name](saved["config"], saved["state"]))
    with pytest.raises(CheckpointError):
        BGS.load(path)


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.fspath(self.marker),)


def loaded_gun(where: str, marker: Path) -> bytes:
    payload = np.array([Payload(marker)], dtype=object)
    entry = npy(payload, allow_pickle=True)
    return {
        "the whole file": lambda: pickle.dumps(Payload(marker)),
        "one .npy array": lambda: entry,
        "the header": lambda: zipped({**entries_of(good()), "header.npy": entry}),
        "an array": lambda: zipped({**entries_of(good()), "a0.npy": entry}),
        "one more array": lambda: zipped({**entries_of(good()), "a99.npy": entry}),
    }[where]()


@pytest.mark.parametrize(
    "where", ["the whole file", "one .npy array", "the header", "an array", "one more array"]
)
def test_a_pickle_is_refused_and_never_run(where, path, tmp_path_factory):
    marker = tmp_path_factory.mktemp("marker") / "run"
    path.write_bytes(loaded_gun(where, marker))
    with pytest.raises(CheckpointError):
        BGS.load(path)
    assert not marker.exists()
    with contextlib.suppress(Exception):  # the payload is armed: NumPy itself would run it
        loaded = np.load(path, allow_pickle=True)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                [loaded[name] for name in loaded.files]
    assert marker.exists()


def test_what_is_not_there_is_told_from_what_is_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        BGS.load(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        BGS.load(tmp_path)


# ---- saves that fail

Patch = tuple[Any, str, int]
STAGES: dict[str, Patch] = {  # what fails, at its first or at a later call
    "opening the first array": (zipfile.ZipFile, "open", 1),
    "opening the fifth array": (zipfile.ZipFile, "open", 5),
    "writing an array": (np.lib.format, "write_array", 3),
    "closing the archive": (zipfile.ZipFile, "close", 1),
    "flushing to the disk": (os, "fsync", 1),
    "renaming": (os, "replace", 1),
}


@contextlib.contextmanager
def at_call(patch: Patch, action: Callable[[], object]) -> Iterator[None]:
    """Run ``action`` in the place of the n-th call of a function."""
    owner, name, number = patch
    original, calls = getattr(owner, name), itertools.count(1)

    def instead(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            action()
        return original(*args, **kwargs)

    setattr(owner, name, instead)
    try:
        yield
    finally:
        setattr(owner, name, original)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), KeyboardInterrupt(), MemoryError()]
)
def test_an_error_during_a_save_leaves_the_old_file_alone(stage, error, path):
    def fail() -> None:
        raise error

    opt = example(generations=5)
    before = contents(opt)
    with at_call(STAGES[stage], fail), pytest.raises(type(error)) as caught:
        opt.save(path)
    assert caught.value is error
    assert contents(opt) == before
    assert_only_the_old_file(path)
    opt.save(path)
    assert contents(BGS.load(path)) == before


class Own(Gaussian):
    """A sampler of the caller's own."""


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": Own()},
        {"sigma_rule": lambda generation: 0.5},
        {"options": Options(learning_rate_schedule=lambda generation: 0.5)},
    ],
    ids=["sampler", "sigma_rule", "schedule"],
)
def test_an_object_of_the_callers_own_is_refused_before_anything_is_written(options, path):
    with pytest.raises(CheckpointError, match="pickle the BGS object"):
        BGS(np.ones(3), 0.1, **options).save(path)
    assert_only_the_old_file(path)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("run.npz/inside.npz", NotADirectoryError),
        ("no such folder/run.npz", FileNotFoundError),
        ("..", IsADirectoryError),
        ("null\0.npz", ValueError),
        ("n" * 300, OSError),
    ],
)
def test_a_target_that_cannot_be_written_is_refused(target, error, path):
    with pytest.raises(error):
        example(generations=5).save(path.parent / target)
    assert_only_the_old_file(path)


def read_only_folder() -> None:
    """In a new process: a folder that its user may read and not write.

    Root may write everywhere; a process of root's becomes "nobody" for the time of the save.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name, "run.npz")
        path.write_bytes(good())
        opt = example(generations=5)
        BGS.load(path)  # imports what it needs while it may
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            opt.save(path)
            found = "saved"
        except PermissionError:
            found = "PermissionError"
        same = digest(BGS.load(path)) == digest(example())
        os.seteuid(user)
        print(json.dumps([found, same, os.listdir(folder)]))
        folder.chmod(0o755)


@posix
def test_a_read_only_folder_is_refused_and_its_file_loads():
    printed = python("from tests.reliability.test_checkpoint import *; read_only_folder()")
    assert json.loads(printed) == ["PermissionError", True, ["run.npz"]]


LIMITS = (0, 1, 1000, 4096, -1)  # bytes; the last one short of the file that is written


def full_disk(folder: str) -> None:
    """In a new process: files may not grow beyond a limit, as on a disk that is full."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    path, opt = Path(folder, "run.npz"), example(generations=5)
    opt.save(path)
    size, found = path.stat().st_size, {}
    for limit in LIMITS:
        path.write_bytes(good())
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit % size, free[1]))
        try:
            opt.save(path)
            error = "saved"
        except OSError as failed:
            error = type(failed).__name__
        resource.setrlimit(resource.RLIMIT_FSIZE, free)
        loads = digest(BGS.load(path)) == digest(example())
        unchanged = path.read_bytes() == good()
        found[str(limit)] = [error, loads, unchanged, os.listdir(folder)]
    print(json.dumps(found))


@pytest.fixture(scope="module")
def on_full_disk(tmp_path_factory) -> dict[str, Any]:
    code = "import sys; from tests.reliability.test_checkpoint import *; full_disk(sys.argv[1])"
    return json.loads(python(code, tmp_path_factory.mktemp("full")))


@posix
@pytest.mark.parametrize("limit", LIMITS)
def test_a_full_disk_is_told_and_leaves_the_old_file_alone(limit, on_full_disk):
    assert on_full_disk[str(limit)] == ["OSError", True, True, ["run.npz"]]


# ---- processes that are killed during a save

KILLS = range(20)
NAMES = ("run.npz", "run", "two words.npz", "run[1].npz", "*", "löss.npz", ".hidden", "{0}-%d.npz")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def forked(job: Callable[[], object]) -> Iterator[int]:
    """A process that does one job, killed at the latest when the block ends."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            job()
            os._exit(0)
        os._exit(1)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            sys.exit("waited too long")


def looked_at(path: Path) -> dict[str, Any]:
    """What lies there after a kill, and after the next save."""
    beside = sorted(set(os.listdir(path.parent)) - {path.name})
    opt = BGS.load(path)
    found = {"beside": len(beside), "generation": opt.generation, "digest": digest(opt)}
    opt.save(path)
    return found | {"after": os.listdir(path.parent), "again": digest(BGS.load(path))}


def save_for_ever(path: Path) -> None:
    opt = larger()
    while True:
        opt.save(path)
        play(opt, 1, rough)


def killed_sometime(folder: Path) -> list[Any]:
    """SIGKILL a while after a temporary file was seen: during the save, or soon after it."""
    found = []
    for number in KILLS:
        path = folder / f"kill {number}" / "run.npz"
        path.parent.mkdir()
        with forked(functools.partial(save_for_ever, path)):
            wait_for(path.exists)
            wait_for(lambda path=path: len(os.listdir(path.parent)) > 1)
            time.sleep(number * 2e-4)
        found.append(looked_at(path))
    return found


def killed_at(folder: Path, stage: Patch, name: str = "run.npz") -> Any:
    folder.mkdir()
    (folder / name).write_bytes(good())

    def job() -> None:
        with at_call(stage, kill):
            example(generations=5).save(folder / name)

    with forked(job) as child:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return looked_at(folder / name)


def killed_and_restarted(folder: Path) -> Any:
    """A container that starts again gives its process the number that the killed one had."""
    folder.mkdir()
    path = folder / "run.npz"
    path.write_bytes(good())

    def job() -> None:
        with at_call(STAGES["renaming"], kill):
            example(generations=5).save(path)

    with forked(job) as child:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    (left,) = set(os.listdir(folder)) - {"run.npz"}
    os.rename(folder / left, folder / left.replace(str(child), str(os.getpid())))
    return looked_at(path)


def save_under_way(folder: Path) -> Any:
    """One process is about to rename; another one saves and does not sweep its file away."""
    folder.mkdir()
    path, go = folder / "run.npz", folder.parent / "go"
    path.write_bytes(good())

    def job() -> None:
        with at_call((os, "replace", 1), functools.partial(wait_for, go.exists)):
            example(generations=5).save(path)

    with forked(job) as child:
        wait_for(lambda: len(os.listdir(folder)) > 1)
        other = example(generations=4)
        other.save(path)
        first = [len(os.listdir(folder)), digest(BGS.load(path)) == digest(other)]
        go.touch()
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return [*first, ended.si_status, os.listdir(folder), digest(BGS.load(path))]


def two_writers(folder: Path) -> Any:
    """Two processes save to one name as fast as they can while this one loads."""
    folder.mkdir()
    path, stop = folder / "run.npz", folder.parent / "stop"
    path.write_bytes(good())
    runs = [example(generations=4), example(generations=5)]

    def job(opt: BGS) -> None:
        while not stop.exists():
            opt.save(path)

    seen = {digest(opt): 0 for opt in (*runs, example())}

    def load() -> bool:
        seen[digest(BGS.load(path))] += 1  # a KeyError were a mixture
        return min(seen[digest(opt)] for opt in runs) >= 5

    with forked(lambda: job(runs[0])) as first, forked(lambda: job(runs[1])) as second:
        wait_for(load)
        stop.touch()
        ends = [os.waitid(os.P_PID, c, os.WEXITED | os.WNOWAIT) for c in (first, second)]
    return [[end.si_status for end in ends], os.listdir(folder)]


def killed(name: str) -> None:
    folder = Path(name)
    after_rename = (os, "fsync", 2)  # of the folder
    print(json.dumps({
        "sometime": killed_sometime(folder),
        "stages": {name: killed_at(folder / name, stage) for name, stage in STAGES.items()},
        "after": killed_at(folder / "after", after_rename),
        "names": [killed_at(folder / f"name {number}", STAGES["renaming"], name)
                  for number, name in enumerate(NAMES)],
        "restarted": killed_and_restarted(folder / "restarted"),
        "under way": save_under_way(folder / "under way"),
        "two writers": two_writers(folder / "two"),
    }))  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # fork wants no others
    code = "import sys; from tests.reliability.test_checkpoint import *; killed(sys.argv[1])"
    return json.loads(python(code, tmp_path_factory.mktemp("kills"), **one_thread))


@functools.cache
def larger_digest(generations: int) -> str:
    return digest(larger(generations))


@posix
@pytest.mark.parametrize("number", KILLS)
def test_after_a_kill_the_file_is_a_whole_run_and_the_next_save_sweeps(number, found):
    this = found["sometime"][number]
    assert this["digest"] == this["again"] == larger_digest(this["generation"])
    assert this["after"] == ["run.npz"]


@posix
def test_the_kills_hit_saves_under_way(found):
    """Else the tests before this one show nothing."""
    assert sum(this["beside"] > 0 for this in found["sometime"]) >= 3


@posix
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_before_the_rename_keeps_the_old_file_and_the_next_save_sweeps(stage, found):
    this = found["stages"][stage]
    assert this["beside"] == 1
    assert this["digest"] == this["again"] == digest(example())
    assert this["after"] == ["run.npz"]


@posix
def test_a_kill_after_the_rename_leaves_the_new_file(found):
    this = found["after"]
    assert this["beside"] == 0
    assert this["digest"] == this["again"] == digest(example(generations=5))


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_kept_and_swept(name, found):
    this = found["names"][NAMES.index(name)]
    assert this["beside"] == 1
    assert this["digest"] == this["again"] == digest(example())
    assert this["after"] == [name]


@posix
def test_a_process_with_the_number_of_the_killed_one_sweeps_too(found):
    this = found["restarted"]
    assert this["beside"] == 1
    assert this["digest"] == this["again"] == digest(example())
    assert this["after"] == ["run.npz"]


@posix
def test_a_save_under_way_in_another_process_is_left_alone_and_comes_last(found):
    files, loaded, status, after, last = found["under way"]
    assert files == 2
    assert loaded
    assert status == 0
    assert after == ["run.npz"]
    assert last == digest(example(generations=5))


@posix
def test_two_processes_may_save_to_one_name(found):
    assert found["two writers"] == [[0, 0], ["run.npz"]]


def test_two_threads_may_save_to_one_name(path):
    runs = [example(generations=4), example(generations=5)]
    allowed = [good_contents(), *map(contents, runs)]
    errors: list[BaseException] = []

    def job(opt: BGS) -> None:
        try:
            for _ in range(40):
                opt.save(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=job, args=(opt,)) for opt in runs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert contents(BGS.load(path)) in allowed
    for thread in threads:
        thread.join()
    assert not errors
    assert contents(BGS.load(path)) in allowed[1:]
    assert os.listdir(path.parent) == ["run.npz"]


# ---- links and permissions


@pytest.mark.parametrize("kind", ["absolute", "relative", "chain", "dangling"])
def test_a_symbolic_link_stays_and_its_target_is_replaced(kind, path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("links")
    link = folder / "latest.npz"
    target = path if kind != "dangling" else path.parent / "not yet.npz"
    if kind == "chain":
        (folder / "middle.npz").symlink_to(target)
        link.symlink_to("middle.npz")
    else:
        link.symlink_to(target if kind != "relative" else os.path.relpath(target, folder))
    before = {name: os.readlink(folder / name) for name in os.listdir(folder)}
    opt = example(generations=5)
    opt.save(link)
    assert {name: os.readlink(folder / name) for name in os.listdir(folder)} == before
    assert sorted(os.listdir(path.parent)) == sorted({path.name, target.name})
    assert target.is_file()
    assert not target.is_symlink()
    assert contents(BGS.load(link)) == contents(BGS.load(target)) == contents(opt)


@pytest.fixture
def usual_umask() -> Iterator[None]:
    previous = os.umask(0o022)
    yield
    os.umask(previous)


@posix
@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755], ids=oct)
def test_the_permissions_of_the_file_are_kept(mode, path):
    path.chmod(mode)
    example(generations=5).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@pytest.mark.usefixtures("usual_umask")
def test_a_new_file_has_the_usual_permissions(path):
    example().save(path.parent / "new.npz")
    assert stat.S_IMODE((path.parent / "new.npz").stat().st_mode) == 0o644


@posix
@pytest.mark.usefixtures("usual_umask")
def test_a_private_file_is_private_at_every_moment(path):
    """Also while it is written: the temporary file is no wider than the one it replaces."""
    path.chmod(0o600)
    modes = []

    def look() -> None:
        modes.extend(stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir() if p != path)

    for stage in ("writing an array", "renaming"):
        with at_call(STAGES[stage], look):
            example(generations=5).save(path)
    assert modes == [0o600, 0o600]


# ---- hours of saves

MANY_SAVES = """
import gc, sys
import numpy as np
from bgs_opt import BGS, Options
from bgs_opt.gene_pool import GenePool
from bgs_opt.normalization import RunningMoments

opt = BGS(np.zeros(50), 0.1, seed=1, options=Options(late="use"))
for number in range(7):
    candidates = opt.ask()
    opt.tell(candidates[:-2], np.random.default_rng(number).normal(size=len(candidates) - 2))
    opt.discard(candidates[-2:])
pool, moments = GenePool(4, 6, seed=1), RunningMoments.of_size(3)
gc.disable()  # a full collection is rare in a long run, and empties the lists
for _ in range(12):  # the first of them fill what a process keeps anyway
    before = sys.getallocatedblocks()
    for _ in range(25):
        opt.save(sys.argv[1])
        pool.state_dict()
        moments.state()
    print(sys.getallocatedblocks() - before)
"""


def test_a_save_leaves_nothing_in_the_lists_of_the_interpreter(tmp_path):
    """It was ten blocks each time, up to 2,000 of each size."""
    assert min(map(int, python(MANY_SAVES, tmp_path / "run.npz").split())) < 25  # one each
