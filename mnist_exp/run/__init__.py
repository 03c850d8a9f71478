"""The files of a run: directory, results, checkpoints, lock, sweep table. Imports errors and schema."""
