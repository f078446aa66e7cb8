"""What every test may rely on."""

import os
import signal

import coverage
import pytest

UNTRACED = {
    "test_aliasing", "test_bad_values", "test_degenerate", "test_docs", "test_golden",
    "test_resume", "test_scale", "test_seeding", "test_state_machine", "test_statistics",
    "test_threads",
}  # fmt: skip
"""Modules that run no line that others do not, but run it very often: no coverage is taken."""

TRACED_PROCESSES = {"test_cli", "test_scipy"}
"""Modules whose tests start processes in which coverage is taken too; elsewhere it would double
the time of a start."""


def pytest_configure():
    """Ctrl-C is not ignored, though a shell starts background jobs that way."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The longest test comes first, so that no worker ends alone."""
    items.sort(key=lambda item: "test_state_machine" not in item.nodeid)


@pytest.fixture(autouse=True, scope="module")
def _coverage(request):
    """Take coverage where it is wanted."""
    tracer = coverage.Coverage.current()
    if tracer is None:
        yield
        return
    name = request.module.__name__.rpartition(".")[2]
    passed_on = os.environ.get("COVERAGE_PROCESS_CONFIG")
    if name not in TRACED_PROCESSES:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    if name in UNTRACED:
        tracer.stop()
    yield
    if passed_on is not None:
        os.environ["COVERAGE_PROCESS_CONFIG"] = passed_on
    if name in UNTRACED:
        tracer.start()
