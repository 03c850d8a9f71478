"""The command line: Hydra in, exit code out.

Imports everything below it, what loads torch or matplotlib inside functions alone.
"""
