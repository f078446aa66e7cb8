"""What every test may rely on."""

import os
import signal

import coverage
import pytest

UNTRACED = {
    "test_aliasing", "test_arguments", "test_bad_values", "test_bounds_of_points",
    "test_degenerate", "test_directions", "test_docs", "test_golden", "test_hadamard",
    "test_nevergrad_conformance", "test_resume", "test_scale", "test_seeding", "test_selection",
    "test_state_machine", "test_statistics", "test_threads", "test_workers",
}  # fmt: skip
"""Modules that run no line that others do not, but run it very often: no coverage is taken, nor
of single tests with the mark `untraced`."""

TOGETHER = {"test_checkpoint", "test_golden", "test_plots", "test_resume", "test_seeding",
            "test_statistics"}  # fmt: skip
"""Modules whose tests share what takes long to make: with pytest-xdist one worker runs them."""

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Send each test to the next free worker, but those of a module of `TOGETHER` to one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module = nodeid.partition("::")[0]
            return module if module.rpartition("/")[2].removesuffix(".py") in TOGETHER else nodeid

    return Scheduling(config, log)


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


@pytest.fixture(autouse=True)
def _untraced(request):
    tracer = coverage.Coverage.current()
    if tracer is None or request.node.get_closest_marker("untraced") is None:
        yield
        return
    tracer.stop()
    yield
    tracer.start()
