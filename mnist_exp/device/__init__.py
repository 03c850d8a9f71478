"""Training under the limits of memory devices: mapping, drift, bounds, levels, pulses, noise."""

from mnist_exp.device.constraint import DeviceConstraint
from mnist_exp.device.settings import DeviceSettings

__all__ = ["DeviceConstraint", "DeviceSettings"]
