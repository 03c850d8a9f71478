"""Sweeps on every engine, for real; run by ``make test-engines``."""
