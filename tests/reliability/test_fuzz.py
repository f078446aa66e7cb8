"""Files that were changed at random or on purpose load to something valid or are refused.

The files are those of ``python -m tests.benchmarks.fuzz``; 20,000 of them are slow.
Those of policies are in tests/adapters/test_policy_files.py.
"""

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from bgs_opt import BGS, GenePool
from bgs_opt.errors import CheckpointError
from tests.helpers import ROOT, play
from tests.reliability import fuzz

LOADERS = tuple(name for name in fuzz.LOADERS if "Policy" not in name and "train" not in name)


def fuzzed(files, loaders, path):
    """In a process of its own: audit hooks and limits stay."""
    command = [sys.executable, "-m", "tests.benchmarks.fuzz", "--files", str(files), "--json",
               str(path), "--loader", *loaders]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert path.exists(), done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["checks"][0]["holds"], done.stderr
    return found["rows"]


def test_changed_files_are_valid_or_refused_and_run_nothing(tmp_path):
    *rows, whole = fuzzed(600, LOADERS, tmp_path / "found.json")
    assert [row[0] for row in rows] == list(LOADERS)
    for _, files, valid, refused, faults, _ in rows:
        assert files == valid + refused
        assert refused > valid > 0
        assert not faults
    assert whole[1] == sum(row[1] for row in rows)


@pytest.mark.slow
def test_many_changed_files_are_valid_or_refused_and_run_nothing(tmp_path):
    assert fuzzed(20_000, LOADERS, tmp_path / "found.json")[-1][-2] == 0


# ---- what was found that way


def entries_of(path):
    with zipfile.ZipFile(path) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist()}


@pytest.fixture
def saved(tmp_path):
    """A run in a file."""
    opt = play(BGS(np.ones(5), 0.1, num_directions=4, seed=1), 2)
    opt.tell(opt.ask(3), [1.0, 2.0, 3.0])
    opt.save(tmp_path / "run.npz")
    return tmp_path / "run.npz"


def forged(path, change):
    """Change the body of a file; its checksum is made right again."""
    data = entries_of(path)
    arrays = {n[:-4]: np.load(io.BytesIO(d)) for n, d in data.items()}
    body = json.loads(json.loads(arrays.pop("header").tobytes())["body"])
    change(body["config"]["items"], body["state"]["items"])
    with open(path, "wb") as file:
        fuzz.archive.dump(file, 1, json.dumps(body), arrays)


FORGERIES = {
    "a text as a budget": ("config", "budget", "many"),
    "a list as a dim": ("config", "dim", [5]),
    "a petabyte as a dim": ("config", "dim", 10**15),
    "a type that is none": ("config", "dtype", "<U99"),
    "no optimizer's state": ("state", "optimizer", {"!": "dict", "items": {}}),
    "a sampler as an optimizer": ("config", "optimizer", {"!": "QR", "items": {}}),
    "a schedule as options": (
        "config",
        "options",
        {"!": "LinearDecay", "items": {"generations": 3}},
    ),
    "sigma infinite": ("state", "sigma", float("inf")),
    "sigma negative": ("state", "sigma", -1.0),
    "a negative count": ("state", "num_evaluations", -3),
    "a true count": ("state", "num_evaluations", True),
    "rows of history that are not there": ("state", "history_rows", 10**9),
    "a stride of nothing": ("state", "history_stride", 0),
    "a best value without a point": ("state", "best_x", None),
    "a best value that is not finite": ("state", "best_value", float("nan")),
    "generations that are numbers": ("state", "closed", [1, 2]),
    "a number in the place of a generation": ("state", "open", 3),
    "warnings that are numbers": ("state", "warned", [1]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_of_other_types_or_sizes_is_refused_when_it_is_loaded(name, saved):
    """Each of them used to load, and to fail later with an error of any kind."""
    part, key, value = FORGERIES[name]

    def change(config, state):
        {"config": config, "state": state}[part][key] = value

    forged(saved, change)
    with pytest.raises(CheckpointError, match=r"run\.npz: expected a checkpoint of bgs_opt; "):
        BGS.load(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("asked", 10**6), ("spent", 7), ("resolved", 3), ("center_left", 2), ("repeats", 5),
     ("number", 77), ("target", 10**12), ("values", None), ("basis", 10**12), ("center", None)],
)  # fmt: skip
def test_books_of_a_generation_that_do_not_agree_are_refused(key, value, saved):
    forged(saved, lambda config, state: state["open"]["items"].update({key: value}))
    with pytest.raises(CheckpointError):
        BGS.load(saved)


def test_a_file_from_before_sigma_followed_the_bend_is_read(tmp_path):
    opt = BGS(np.ones(5), 0.1, optimizer="auto", seed=1, options=fuzz.Options(noisy=True))
    play(opt, 2).save(tmp_path / "run.npz")
    forged(tmp_path / "run.npz", lambda _, state: state["automatic"]["items"].pop("bends"))
    loaded = BGS.load(tmp_path / "run.npz")
    candidates = loaded.ask()
    np.testing.assert_array_equal(candidates.x, opt.ask().x)
    loaded.tell(candidates, np.arange(float(len(candidates))))
    play(loaded, 2)


def test_a_run_that_was_grown_and_is_late_passes_the_checks(tmp_path):
    """The checks are of what a run may be, not of what it mostly is."""
    opt = BGS(np.ones(3), 0.1, num_directions=2, seed=1,
              options=fuzz.Options(late="use", center_evaluations=1))  # fmt: skip
    kept = []
    for _ in range(12):
        asked = opt.ask(opt.needed + 4)
        kept += asked.ids.tolist()[-3:]
        rest = [i for i in opt.pending.ids.tolist() if i not in kept]
        opt.tell(rest, np.arange(float(len(rest))))
        opt.discard(opt.pending)
        opt.save(tmp_path / "run.npz")
        opt = BGS.load(tmp_path / "run.npz")


def test_an_entry_whose_packed_size_is_a_lie_takes_no_memory(tmp_path, saved):
    """zipfile asks for as many bytes as the directory says are packed."""
    data = bytearray(saved.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 24] = struct.pack("<I", 0x7FFFFFF0)
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match="claims 2147483632 bytes"):
        BGS.load(saved)


def test_a_header_in_another_encoding_imports_no_codec(tmp_path):
    path = tmp_path / "pool.npz"
    GenePool(3, 6, seed=1).save(path)
    entries = entries_of(path)
    text = json.dumps({"format": 1}).encode("utf-32-be")
    entries["header.npy"] = fuzz.npy(np.frombuffer(text, np.uint8))
    path.write_bytes(fuzz.zipped(entries.items()))
    with pytest.raises(CheckpointError, match="sha256|Decode"):
        GenePool.load(path)
