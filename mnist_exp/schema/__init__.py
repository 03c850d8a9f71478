"""Types and ranges of every key of ``conf/``, each declared once. Imports errors and files.

`rule` defines rules, `parts` declares the arguments of each ``_target_`` (our classes check
themselves against it), `keys` declares all other keys, and `configuration` checks a whole
configuration, whose interpolations `interpolation` resolves. Nothing here loads torch.
"""

from mnist_exp.schema.configuration import check
from mnist_exp.schema.interpolation import resolved_values, unresolved
from mnist_exp.schema.keys import LENGTH_ARGUMENTS, RULES
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
    "resolved_values",
    "unresolved",
]
