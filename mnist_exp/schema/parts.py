"""Ranges of the arguments of every ``_target_`` in ``conf/``, ours and others'.

Our classes check their arguments against these tables, and combinations of arguments in code.
"""

from __future__ import annotations

import re

from mnist_exp.schema.device_parts import (
    ARRAY_READING,
    COST,
    DEVICE,
    EXP_STEP,
    LINEAR_STEP,
    POW_STEP,
    SOFT_BOUNDS,
    STEP_MODEL,
    TABLE_STEP,
    THRESHOLDED_WRITES,
    TIKI_TAKA,
    TIKI_TAKA_V2,
)
from mnist_exp.schema.gradient_parts import GRADIENTS
from mnist_exp.schema.programmed_parts import PROGRAMMED_PARTS
from mnist_exp.schema.rule import (
    ABOVE_0,
    AT_LEAST_0,
    BELOW_1,
    BOOLEAN,
    SHARE,
    TEXT,
    Rule,
    integer,
    list_of,
    number,
    one_of,
    optional,
)

MLP = {
    "hidden_sizes": list_of(integer(1), "a list of whole numbers of at least 1, such as [256,128]"),
    "activation": one_of("relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", "silu"),
    "dropout": BELOW_1,
    "in_features": integer(1),
}
CNN = {
    "image_shape": list_of(integer(1), "[channels,height,width], such as [1,28,28]", length=3),
}
CNN20K = CNN | {
    "dropout": list_of(
        BELOW_1,
        "two probabilities p with 0 <= p < 1, after the input block and after the transition "
        "block, such as [0.05,0.1]",
        length=2,
    ),
}

AUGMENTATION = {
    "degrees": AT_LEAST_0,
    "translate": AT_LEAST_0,
    "scale": AT_LEAST_0,
    "shear": AT_LEAST_0,
    "elastic_alpha": AT_LEAST_0,
    "elastic_sigma": number(lambda value: value >= 0.5, "at least 0.5"),
    "brightness": AT_LEAST_0,
    "contrast": AT_LEAST_0,
    "erasing": AT_LEAST_0,
    "noise": AT_LEAST_0,
    "strength": AT_LEAST_0,
}

IMAGE_SHAPE = Rule(
    lambda value: (
        value is None
        or (
            isinstance(value, (list, tuple))
            and len(value) in (2, 3)
            and all(integer(1).accepts(side) for side in value)
        )
    ),
    "null, [height,width] or [channels,height,width] in pixels, such as [16,20]",
)

HOLDOUT = {
    "train": optional(integer(1)),
    "validation": optional(integer(0)),
    "test": optional(integer(1)),
}
FOLDS = {"n_splits": integer(2), "n_repeats": integer(1), "shuffle": BOOLEAN}

CLASS_WEIGHTS = optional(
    list_of(AT_LEAST_0, "a list with a number of at least 0 for each class, such as [1,2]")
)
CROSS_ENTROPY = {
    "weight": CLASS_WEIGHTS,
    "label_smoothing": number(lambda value: 0 <= value < 1, "0 <= s < 1"),
}
FOCAL = {"gamma": AT_LEAST_0, "alpha": CLASS_WEIGHTS}

ASYMMETRIC_SGD = {"lr_pos": ABOVE_0, "lr_neg": ABOVE_0, "momentum": BELOW_1}
MUON = {
    "lr": ABOVE_0,
    "vector_lr": ABOVE_0,
    "momentum": BELOW_1,
    "beta2": BELOW_1,
    "steps": integer(1),
}
SGD = {
    "lr": AT_LEAST_0,
    "momentum": AT_LEAST_0,
    "nesterov": BOOLEAN,
    "weight_decay": AT_LEAST_0,
    "fused": optional(BOOLEAN),
}
ADAM = {
    "lr": AT_LEAST_0,
    "betas": list_of(BELOW_1, "two numbers, at least 0 and below 1, such as [0.9,0.999]", length=2),
    "weight_decay": AT_LEAST_0,
    "fused": optional(BOOLEAN),
}
ADAGRAD = {"lr": AT_LEAST_0, "weight_decay": AT_LEAST_0}
LBFGS = {
    "lr": AT_LEAST_0,
    "max_iter": integer(1),
    "max_eval": optional(integer(1)),
    "tolerance_grad": AT_LEAST_0,
    "tolerance_change": AT_LEAST_0,
    "history_size": integer(1),
    "line_search_fn": optional(one_of("strong_wolfe")),
}


def _monitor(*parts: str) -> Rule:
    """Names of values measured on these images: ``validation_loss`` or ``validation.loss``."""
    pattern = re.compile(rf"({'|'.join(parts)})[_.].+")
    return Rule(
        lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None,
        f"a value on {' or '.join(parts)} images, such as {parts[0]}_loss (test images decide "
        "nothing about training)",
    )


def _also_by_group(rule: Rule) -> Rule:
    """Values that ``rule`` accepts, or a list of them with one item per parameter group."""
    several = list_of(rule, "")
    return Rule(
        lambda value: rule.accepts(value) or several.accepts(value),
        f"{rule.allowed}, or a list of these, one per parameter group",
    )


STEPS = optional(integer(1))  # null: the whole run
COSINE = {"T_max": STEPS, "eta_min": AT_LEAST_0}
ONE_CYCLE = {
    "max_lr": optional(_also_by_group(ABOVE_0)),
    "total_steps": STEPS,
    "pct_start": SHARE,
    "anneal_strategy": one_of("cos", "linear"),
    "cycle_momentum": BOOLEAN,
    "base_momentum": _also_by_group(BELOW_1),
    "max_momentum": _also_by_group(BELOW_1),
    "div_factor": ABOVE_0,
    "final_div_factor": ABOVE_0,
    "three_phase": BOOLEAN,
}
STEP = {"step_size": integer(1), "gamma": AT_LEAST_0}

PLATEAU = {
    "monitor": optional(_monitor("validation", "train")),
    "mode": optional(one_of("min", "max")),
    "factor": number(lambda value: 0 < value < 1, "above 0 and below 1"),
    "patience": integer(0),
    "threshold": AT_LEAST_0,
    "threshold_mode": one_of("rel", "abs"),
    "cooldown": integer(0),
    "min_lr": _also_by_group(AT_LEAST_0),
    "eps": AT_LEAST_0,
}
SWALR = {
    "swa_lr": _also_by_group(AT_LEAST_0),
    "anneal_epochs": integer(0),
    "anneal_strategy": one_of("cos", "linear"),
}
EARLY_STOPPING = {
    "monitor": _monitor("validation"),
    "patience": integer(1),
    "min_delta": AT_LEAST_0,
    "mode": optional(one_of("min", "max")),
}

# Keys of a group that mnist_exp reads itself, not arguments of its target.
OWN_KEYS = {
    "model": {"name", "weights", "strict"},
    "data": {
        *("classes", "class_names", "transpose"),
        *("subset", "normalization", "mean", "std"),
    },
    "scheduler": {"interval", "monitor"},
    "cv": {"n_jobs"},
    "constraint": {"effects"},
}
# Keys by which a part asks for something else than a plain call; Hydra sees to them.
HYDRA_KEYS = {"_partial_", "_args_", "_recursive_", "_convert_"}

PARTS: dict[str, dict[str, Rule]] = {
    "mnist_exp.models.MLP": MLP,
    "mnist_exp.models.CNN21k": CNN,
    "mnist_exp.models.CNN20k": CNN20K,
    "mnist_exp.data.load_mnist": {},
    "mnist_exp.data.load_idx_directory": {"root": TEXT, "prefix": optional(TEXT), "name": TEXT},
    "mnist_exp.data.load_npz": {"file": TEXT, "name": TEXT},
    "mnist_exp.data.load_csv": {
        "train_file": TEXT,
        "test_file": TEXT,
        "image_shape": IMAGE_SHAPE,
        "name": TEXT,
    },
    "mnist_exp.data.load_torchvision": {"name": TEXT, "root": TEXT, "download": BOOLEAN},
    "torchvision.datasets.CIFAR10": {"root": TEXT, "download": BOOLEAN},
    "mnist_exp.data.augment.Augmentation": AUGMENTATION,
    "mnist_exp.cv.Holdout": HOLDOUT,
    "sklearn.model_selection.KFold": FOLDS,
    "sklearn.model_selection.StratifiedKFold": FOLDS,
    "sklearn.model_selection.RepeatedStratifiedKFold": FOLDS,
    "mnist_exp.train.losses.cross_entropy": CROSS_ENTROPY,
    "mnist_exp.train.losses.focal": FOCAL,
    "mnist_exp.train.losses.mse": {},
    "mnist_exp.train.metrics.top_k_accuracy": {"k": integer(1)},
    "mnist_exp.train.metrics.expected_calibration_error": {"bins": integer(1, 1_000_000)},
    "mnist_exp.train.metrics.negative_log_likelihood": {},
    "mnist_exp.train.metrics.ShiftedAccuracy": {"pixels": integer(1, 14)},
    "mnist_exp.train.metrics.f1": {"average": optional(one_of("macro", "micro", "weighted"))},
    "mnist_exp.optim.AsymmetricSGD": ASYMMETRIC_SGD,
    "mnist_exp.optim.Muon": MUON,
    "torch.optim.SGD": SGD,
    "torch.optim.Adam": ADAM,
    "torch.optim.AdamW": ADAM,
    "torch.optim.Adagrad": ADAGRAD,
    "torch.optim.LBFGS": LBFGS,
    "torch.optim.lr_scheduler.CosineAnnealingLR": COSINE,
    "torch.optim.lr_scheduler.OneCycleLR": ONE_CYCLE,
    "torch.optim.lr_scheduler.ReduceLROnPlateau": PLATEAU,
    "torch.optim.lr_scheduler.StepLR": STEP,
    "torch.optim.swa_utils.SWALR": SWALR,
    "mnist_exp.device.DeviceConstraint": DEVICE,
    "mnist_exp.device.ArrayReading": ARRAY_READING,
    "mnist_exp.device.ConstantStep": STEP_MODEL,
    "mnist_exp.device.LinearStep": LINEAR_STEP,
    "mnist_exp.device.SoftBounds": SOFT_BOUNDS,
    "mnist_exp.device.ExpStep": EXP_STEP,
    "mnist_exp.device.PowStep": POW_STEP,
    "mnist_exp.device.Cost": COST,
    "mnist_exp.device.ThresholdedWrites": THRESHOLDED_WRITES,
    "mnist_exp.device.TikiTaka": TIKI_TAKA,
    "mnist_exp.device.TikiTakaV2": TIKI_TAKA_V2,
    "mnist_exp.device.TableStep": TABLE_STEP,
    **PROGRAMMED_PARTS,
    "mnist_exp.gradients.GradientCollector": GRADIENTS,
    "mnist_exp.callbacks.early_stopping.EarlyStopping": EARLY_STOPPING,
    "mnist_exp.trackers.CSV": {},
    "mnist_exp.trackers.TensorBoard": {"flush_secs": integer(1)},
    "mnist_exp.trackers.MLflow": {
        "experiment": TEXT,
        "tracking_uri": optional(TEXT),
        "patience": AT_LEAST_0,
    },
    "mnist_exp.trackers.WandB": {
        "project": TEXT,
        "entity": optional(TEXT),
        "mode": optional(one_of("online", "offline")),
        "patience": AT_LEAST_0,
    },
    "mnist_exp.trackers.Trackio": {"project": TEXT, "patience": AT_LEAST_0},
}
