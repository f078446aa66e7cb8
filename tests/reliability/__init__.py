"""Tests of the promises in docs/guarantees.md, one module per group."""
