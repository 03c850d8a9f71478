"""Training callbacks, one per file. Imports train and the packages below it."""
