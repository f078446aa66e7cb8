"""Tests of the adapters, one module per adapter."""
