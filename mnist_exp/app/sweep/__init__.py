"""Sweeps: list the jobs, run each one, resume an unfinished sweep."""
