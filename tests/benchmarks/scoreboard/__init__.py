"""18 checks of reliability, run live; see :mod:`tests.benchmarks.scoreboard.__main__`."""
