"""Golden files: known-good runs that later versions must repeat."""
