"""Runs that are killed again and again end with the bits of the run that nothing happened to.

The faults are those of ``python -m tests.benchmarks.faults``; two hundred of them are slow.
Without torch they strike minimize alone.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")


def struck(kills, seed, path):
    """What the program prints of so many faults, as JSON."""
    command = [sys.executable, "-m", "tests.benchmarks.faults", "--json", str(path),
               "--kills", str(kills), "--seed", str(seed), "--check"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False,
                          timeout=60 * kills)  # fmt: skip
    assert path.exists(), done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["checks"][0]["holds"], done.stdout + done.stderr
    return {row[0]: row[1:] for row in found["rows"]}


def test_ten_faults_change_no_bit_and_leave_nothing(tmp_path):
    table = struck(10, 1, tmp_path / "found.json")
    assert table["struck in all"][-1] == 10
    assert table["runs that ended"][-1] >= 4


@pytest.mark.slow
def test_two_hundred_faults_change_no_bit_and_leave_nothing(tmp_path):
    table = struck(200, 2, tmp_path / "found.json")
    assert table["struck in all"][-1] == 200
    assert all(row[-1] for row in table.values()), "every kind of fault struck"
