"""Device constraints on weights: mapping, drift, bounds, levels, pulses, noise and reading."""

from mnist_exp.device.constraint import DeviceConstraint
from mnist_exp.device.cost import Cost
from mnist_exp.device.effect import Effect
from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.reading.array_reading import ArrayReading
from mnist_exp.device.reading.layers import reading_on
from mnist_exp.device.reading.reading import Array, Reading
from mnist_exp.device.settings import DeviceSettings
from mnist_exp.device.step_model import StepModel
from mnist_exp.device.step_shapes import ConstantStep, ExpStep, LinearStep, PowStep, SoftBounds
from mnist_exp.device.table_step import TableStep
from mnist_exp.device.thresholded_writes import ThresholdedWrites
from mnist_exp.device.tiki_taka import TikiTaka, TikiTakaV2
from mnist_exp.device.update_scheme import UpdateScheme

__all__ = [
    "Array",
    "ArrayReading",
    "ConstantStep",
    "Cost",
    "DeviceConstraint",
    "DeviceProperties",
    "DeviceSettings",
    "Effect",
    "ExpStep",
    "LinearStep",
    "PowStep",
    "Reading",
    "SoftBounds",
    "StepModel",
    "TableStep",
    "ThresholdedWrites",
    "TikiTaka",
    "TikiTakaV2",
    "UpdateScheme",
    "reading_on",
]
