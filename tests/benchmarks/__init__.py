"""Benchmarks; each module is a script: ``python -m tests.benchmarks.NAME --quick``."""
