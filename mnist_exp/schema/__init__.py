"""Types and ranges of every key of ``conf/``, each declared once. Imports errors and files.

`rule` says how a range is written, `parts` declares those of each ``_target_``, which the classes
check themselves against, and `keys` checks a whole configuration. Nothing here loads torch.
"""

from mnist_exp.schema.keys import LENGTH_ARGUMENTS, RULES, check
from mnist_exp.schema.rule import BOOLEAN, NAME, TEXT, Rule, integer, number, one_of, optional

__all__ = [
    "BOOLEAN",
    "LENGTH_ARGUMENTS",
    "NAME",
    "RULES",
    "TEXT",
    "Rule",
    "check",
    "integer",
    "number",
    "one_of",
    "optional",
]
