"""A device from a measurement: reading it, fitting it, and the option that trains with it.

Works in numpy and scipy. Imports errors, files and schema, and the curves of `mnist_exp.device`.
"""
