"""Files of policies and trainings that were changed, at random and on purpose.

The random ones are those of ``python -m tests.benchmarks.fuzz``; 20,000 of them are slow.
"""

import json
import os
import pickle
import zipfile

import pytest
import torch

from bgs_opt.adapters.policy import MLP, Policy
from bgs_opt.errors import CheckpointError
from tests.reliability import fuzz
from tests.reliability.test_fuzz import LOADERS as OF_RUNS
from tests.reliability.test_fuzz import entries_of, fuzzed

LOADERS = tuple(name for name in fuzz.LOADERS if name not in OF_RUNS)


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


@pytest.fixture
def policy(tmp_path):
    made = Policy(MLP(3, 2, hidden=(4,)), observation_shape=(3,))
    made.save(tmp_path / "policy.pt")
    return tmp_path / "policy.pt"


def load(path):
    return Policy.load(path)


def rewritten(path, **changes):
    saved = torch.load(path, weights_only=True)
    note = json.loads(saved["bgs_opt"])
    note["config"] |= changes.pop("config", {})
    saved["bgs_opt"] = json.dumps(note | changes)
    torch.save(saved, path)


@pytest.mark.parametrize(
    "config",
    [{"observation_size": 10**15}, {"outputs": 10**12}, {"hidden": [10**15]},
     {"hidden": [4] * 100_000}, {"observation_size": -1}, {"more": 1}],
)  # fmt: skip
def test_a_network_that_is_larger_than_its_file_is_not_made(policy, config):
    rewritten(policy, config=config)
    with pytest.raises(CheckpointError, match="expected a policy of bgs_opt"):
        load(policy)


@pytest.mark.parametrize(
    "changes",
    [{"observation_shape": [10**15]}, {"observation_shape": [7]}, {"recurrent": True},
     {"genes": [10**9, 10**9]}, {"env": 3}, {"env": {"id": 3}}, {"normalize": 1},
     {"observation_space": {"kind": "Box", "dtype": "V1000000000", "low": [0], "high": [1]}},
     {"action_space": {"kind": "Discrete", "n": 7, "start": 0}}],
)  # fmt: skip
def test_a_description_that_does_not_fit_is_refused(policy, changes):
    rewritten(policy, **changes)
    with pytest.raises(CheckpointError, match="expected a policy of bgs_opt"):
        load(policy)


def test_a_tensor_that_is_larger_than_its_storage_is_not_made(policy):
    saved = torch.load(policy, weights_only=True)
    saved["policy"] = {n: t[:1].expand(10**6, *t.shape[1:]) for n, t in
                       saved["policy"].items()}  # fmt: skip
    torch.save(saved, policy)
    assert torch.load(policy, weights_only=True)["policy"]  # torch makes them
    with pytest.raises(CheckpointError, match="in a storage of"):
        load(policy)


def test_a_packed_entry_is_refused_before_it_is_unpacked(policy):
    bomb = entries_of(policy) | {"archive/data/9": bytes(1 << 24)}
    policy.write_bytes(fuzz.zipped(bomb.items(), zipfile.ZIP_DEFLATED))
    assert policy.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="claims"):
        load(policy)
    assert torch.__version__


@pytest.mark.parametrize("gun", ["os.system", "eval", "bytearray", "torch.zeros"])
def test_a_pickle_that_calls_something_is_refused_and_not_run(policy, gun, tmp_path):
    marker = tmp_path / "ran"
    call = {
        "os.system": (os.system, f"touch {marker}"), "eval": (eval, "1"),
        "bytearray": (bytearray, 10**13), "torch.zeros": (torch.zeros, 10**13),
    }  # fmt: skip
    entries = entries_of(policy)
    name = next(n for n in entries if n.endswith("data.pkl"))
    armed = {"bgs_opt": "{}", "policy": fuzz.Names(*call[gun])}
    entries[name] = pickle.dumps(armed, protocol=2)
    policy.write_bytes(fuzz.zipped(entries.items()))
    with pytest.raises(CheckpointError, match="it names"):
        load(policy)
    assert not marker.exists()
