"""Sweeps: the jobs asked for, each job as it runs, and going on with what is not finished."""
