"""What every test may rely on."""

import signal


def pytest_configure(config):
    """Ctrl-C is not ignored, though a shell starts background jobs that way."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
