"""Device constraints on weights: mapping, drift, bounds, levels, pulses and noise."""

from mnist_exp.device.constraint import DeviceConstraint
from mnist_exp.device.effect import Effect
from mnist_exp.device.settings import DeviceSettings
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.step_models import ConstantStep, ExpStep, LinearStep, PowStep, SoftBounds
from mnist_exp.device.table_step import TableStep

__all__ = [
    "ConstantStep",
    "DeviceConstraint",
    "DeviceSettings",
    "Effect",
    "ExpStep",
    "LinearStep",
    "PowStep",
    "SoftBounds",
    "StepModel",
    "TableStep",
]
