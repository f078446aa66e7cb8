"""What every test may rely on."""

import importlib.util
import os
import signal

import pytest

TRACED = {
    "test_averaging", "test_bgs", "test_bounds", "test_candidates", "test_checkpoint", "test_cli",
    "test_config", "test_evotorch", "test_evotorch_actors", "test_evotorch_functional",
    "test_gene_operators", "test_gene_pool", "test_gradient", "test_inject", "test_minimize",
    "test_nevergrad", "test_normalization",
    "test_opening", "test_optimizers", "test_options", "test_plots", "test_scipy",
    "test_selection", "test_sigma", "test_state", "test_streams", "test_torch",
    "test_torch_population", "test_workers", "test_gymnasium", "test_policy", "test_policy_cli",
}  # fmt: skip
"""Modules that `make coverage` runs; the others run no line that these do not, but very often:
they get the mark `untraced`, as single tests have."""

NEEDED = {"evotorch": "evotorch", "torch": "torch", "gymnasium": "gymnasium", "policy": "torch",
          "upstream": "torch"}  # fmt: skip
collect_ignore_glob = [
    f"adapters/test_{tests}*"
    for tests, package in NEEDED.items()
    if importlib.util.find_spec(package) is None
]
"""What `make test` leaves out, without torch and EvoTorch; `make test-torch` runs it."""

TOGETHER = {"test_checkpoint", "test_golden", "test_plots", "test_resume", "test_seeding",
            "test_statistics", "test_evotorch_actors"}  # fmt: skip
"""Modules whose tests share what takes long to make: with pytest-xdist one worker runs them."""

LONGEST = {"test_state_machine", "test_evotorch_actors", "test_policy"}

TRACED_PROCESSES = {"test_cli", "test_scipy"}
"""Modules whose tests start processes in which coverage is taken too; elsewhere it would double
the time of a start."""


def pytest_configure():
    """Ctrl-C is not ignored, though a shell starts background jobs that way."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before the marks select
def pytest_collection_modifyitems(items):
    """The longest tests come first, so that no worker ends alone."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        if item.path.stem not in TRACED:
            item.add_marker("untraced")


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
    """Take coverage of processes too where it is wanted."""
    passed_on = os.environ.get("COVERAGE_PROCESS_CONFIG")
    if passed_on is None or request.path.stem in TRACED_PROCESSES:
        yield
        return
    del os.environ["COVERAGE_PROCESS_CONFIG"]
    yield
    os.environ["COVERAGE_PROCESS_CONFIG"] = passed_on
