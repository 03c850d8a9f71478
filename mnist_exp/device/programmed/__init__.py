"""Devices after training: programmed once, drifting, read with noise, and what makes up for it.

Conductances here are shares of the largest one, g = G / g_max, tensors of any shape; times are in
seconds since the programming ended. Imports errors, models and the rest of ``device``.
"""

from mnist_exp.device.programmed.drift import Drift, ExponentialRetention, PowerLawDrift
from mnist_exp.device.programmed.evaluation import DeviceEvaluation
from mnist_exp.device.programmed.network import ProgrammedNetwork
from mnist_exp.device.programmed.programming import ProgrammingError, WriteVerify
from mnist_exp.device.programmed.read_noise import ReadNoise

__all__ = [
    "DeviceEvaluation",
    "Drift",
    "ExponentialRetention",
    "PowerLawDrift",
    "ProgrammedNetwork",
    "ProgrammingError",
    "ReadNoise",
    "WriteVerify",
]
