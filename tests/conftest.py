"""What every test may rely on."""

import signal

import pytest

UNTRACED = {
    "test_aliasing", "test_bad_values", "test_degenerate", "test_docs", "test_golden",
    "test_resume", "test_scale", "test_seeding", "test_state_machine", "test_statistics",
    "test_threads",
}  # fmt: skip
"""Modules that run no line that others do not, but run it very often: no coverage is taken."""


def pytest_configure(config):
    """Ctrl-C is not ignored, though a shell starts background jobs that way."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Mark the modules above; the longest test comes first, so that no worker ends alone."""
    for item in items:
        if item.module.__name__.rpartition(".")[2] in UNTRACED:
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: "test_state_machine" not in item.nodeid)
