"""Device constraints on weights: mapping, drift, bounds, levels, pulses and noise."""

from mnist_exp.device.constraint import DeviceConstraint
from mnist_exp.device.effect import Effect
from mnist_exp.device.settings import DeviceSettings

__all__ = ["DeviceConstraint", "DeviceSettings", "Effect"]
