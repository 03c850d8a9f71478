"""Search with Optuna: trial = job = directory. Imports `app.sweep`'s rooms; optuna in functions.

`settings` checks a search before it starts, `space` reads what is searched, `study` opens Optuna's
study, `trials` runs the trials, and `job` is the part of a job that knows of its search.
"""
