"""A device from a measurement: reading it, fitting it, and the option that trains with it.

Works in numpy and scipy. Imports errors, files and schema, and the curves of `mnist_exp.device`.
"""

from mnist_exp.device.measurement.fits import Fit, fit_curves
from mnist_exp.device.measurement.option import option_text
from mnist_exp.device.measurement.ramps import Measurement
from mnist_exp.device.measurement.readings import read_measurement
from mnist_exp.device.measurement.synthetic import csv_of, example_csv, synthetic_ramps

__all__ = [
    "Fit",
    "Measurement",
    "csv_of",
    "example_csv",
    "fit_curves",
    "option_text",
    "read_measurement",
    "synthetic_ramps",
]
