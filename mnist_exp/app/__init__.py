"""The command line: Hydra in, exit code out.

May import every package below it; imports that load torch or matplotlib stay inside functions.
"""
