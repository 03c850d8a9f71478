"""Ranges of the arguments of a collection of per-sample gradients."""

from __future__ import annotations

import os

from mnist_exp.files.names import PLAIN_NAME, is_plain_name
from mnist_exp.schema.rule import (
    BOOLEAN,
    TEXT,
    WHOLE,
    Rule,
    integer,
    list_of,
    one_of,
    optional,
)

# Other entries of a run directory.
TAKEN = (
    *("checkpoints", "plots", "tensorboard", "wandb", "export", "config.yaml", "results.json"),
    *("metrics.jsonl", "steps.jsonl", "metrics.csv", "steps.csv", "results.csv"),
)
DIRECTORY = Rule(
    lambda value: is_plain_name(value) and value.casefold() not in TAKEN,
    f"{PLAIN_NAME}; none of {', '.join(TAKEN)}",
)
ABSOLUTE = Rule(
    lambda value: isinstance(value, str) and os.path.isabs(os.path.expanduser(value)),
    "an absolute path",
)
# Arguments shared by a single collection and the collections of a run.
COLLECTION = {
    "parameters": optional(list_of(TEXT, 'a list of names or patterns, such as ["network.0.*"]')),
    "format": one_of("factored", "dense", "statistics"),
    "dtype": one_of("float32", "float16", "bfloat16"),
    "dropout": BOOLEAN,
    "cosine": BOOLEAN,
    "top_k": integer(1),
    "working_memory": integer(1),
    "seed": integer(0),
}
GRADIENTS = COLLECTION | {
    "mode": one_of("epoch", "batch"),
    "directory": DIRECTORY,
    "root": optional(ABSOLUTE),
    "epochs": optional(list_of(WHOLE, "a list of whole numbers, such as [1,5]")),
    "at_start": BOOLEAN,
    "max_samples": optional(integer(1)),
    "sample_choice": one_of("random", "first"),
    "augmented": BOOLEAN,
}
