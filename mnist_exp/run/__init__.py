"""The files of a run: directory, results, checkpoints, lock, provenance, the table of a sweep.

Imports train, schema, files and what lies below them.
"""
