"""The golden runs keep their numbers: all bits on the build that recorded them, rtol elsewhere."""

import json
import math
from typing import Any

import numpy as np
import pytest

from tests.golden.refresh import (
    COMMAND,
    FILE,
    GENERATIONS,
    NAMES,
    SHOWN,
    environment,
    read,
    record,
    run,
    written,
)
from tests.helpers import OLDER_CPU, python

RTOL = 1e-12
GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


def same_build(name: str, recorded: dict[str, str], here: dict[str, str]) -> bool:
    """Whether the bits must agree; LAPACK's kernel matters to QR alone."""
    apart = set() if name.startswith("qr") else {"qr"}
    return all(recorded[key] == here[key] for key in recorded if key not in apart)


def compare(name: str, golden: dict[str, str], got: dict[str, str], exact: bool) -> None:
    """Fail, with the command that makes a new file, if the numbers of a run have changed."""
    errors = {}
    for key in golden.keys() | got.keys():
        wanted, numbers = read(golden.get(key, "")), read(got.get(key, ""))
        if wanted.shape != numbers.shape:
            errors[key] = math.inf
        elif wanted.tobytes() != numbers.tobytes():
            errors[key] = float(np.abs(numbers - wanted).max() / np.abs(wanted).max())
    if errors if exact else not all(error <= RTOL for error in errors.values()):
        pytest.fail(
            f"golden run {name} has changed, relative to the largest number of each array by "
            f"{errors} (allowed: {'nothing' if exact else RTOL}).\nIf that was meant, run\n\n"
            f"    {COMMAND}\n\nand say why in CHANGELOG.md."
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_the_golden_numbers(name):
    exact = same_build(name, GOLDEN["environment"], environment())
    compare(name, GOLDEN["runs"][name], run(name), exact)


@pytest.fixture(scope="module")
def older_cpu() -> dict[str, Any]:
    code = "import json; from tests.golden.refresh import record; print(json.dumps(record()))"
    return json.loads(python(code, **OLDER_CPU))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_an_older_cpu_gives_the_golden_numbers(name, older_cpu):
    exact = same_build(name, GOLDEN["environment"], older_cpu["environment"])
    compare(name, GOLDEN["runs"][name], older_cpu["runs"][name], exact)


def test_the_file_holds_all_runs_and_the_build_that_made_it():
    assert list(GOLDEN["runs"]) == NAMES
    assert GOLDEN["environment"].keys() == environment().keys()
    for numbers in GOLDEN["runs"].values():
        assert all(len(read(numbers[column])) == GENERATIONS for column in SHOWN)
        best = read(numbers["best_value"])
        assert best[-1] < 0.6 * best[0]  # a search that works, not noise
    assert len({numbers["center"] for numbers in GOLDEN["runs"].values()}) == len(NAMES)


def with_center(center: np.ndarray) -> dict[str, str]:
    return {**GOLDEN["runs"]["qr-adam"], "center": written(center)}


@pytest.mark.parametrize(("exact", "change"), [(True, 1e-15), (False, 1e-11), (False, math.nan)])
def test_a_changed_number_fails_and_the_message_has_the_command(exact, change):
    center = read(GOLDEN["runs"]["qr-adam"]["center"])
    center[np.argmax(np.abs(center))] *= 1 + change
    with pytest.raises(pytest.fail.Exception, match=rf"(?s)qr-adam.*center.*{COMMAND}"):
        compare("qr-adam", GOLDEN["runs"]["qr-adam"], with_center(center), exact)


def test_a_last_bit_is_forgiven_on_other_builds_only():
    golden = GOLDEN["runs"]["qr-adam"]
    other = with_center(np.nextafter(read(golden["center"]), 9.0))
    compare("qr-adam", golden, other, exact=False)
    with pytest.raises(pytest.fail.Exception):
        compare("qr-adam", golden, other, exact=True)


def test_a_missing_number_fails():
    golden = GOLDEN["runs"]["qr-adam"]
    with pytest.raises(pytest.fail.Exception):
        compare("qr-adam", golden, with_center(read(golden["center"])[1:]), exact=False)


@pytest.mark.parametrize("key", ["numpy", "machine", "platform", "libc", "qr"])
def test_the_bits_are_asked_for_on_the_recording_build_only(key):
    here = environment()
    other = {**here, key: "another"}
    assert same_build("qr-sgd", here, here)
    assert not same_build("qr-sgd", here, other)
    assert same_build("gaussian-sgd", here, other) == (key == "qr")


def test_the_command_writes_the_file(tmp_path):
    """To another place than the real one, which only a person replaces."""
    before = FILE.read_bytes()
    printed = python(
        "import runpy; runpy.run_module('tests.golden.refresh', run_name='__main__')",
        tmp_path / "new.json",
    )
    assert printed == f"{tmp_path / 'new.json'}: 12 runs\n"
    assert json.loads((tmp_path / "new.json").read_text("utf-8")) == record()
    assert FILE.read_bytes() == before
