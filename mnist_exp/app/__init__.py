"""The command line: Hydra in, exit code out. Imports everything below it, torch inside functions only."""
