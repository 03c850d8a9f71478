"""Files of a run: directory, results, checkpoints, lock, provenance, sweep table.

May import train, schema, files and the packages below them.
"""
