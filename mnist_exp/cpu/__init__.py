"""CPU-only optimizations behind one interface, `ops`.

The training loop, optimizers, devices and data call `mnist_exp.cpu.ops`, which hides builds,
threads and addresses. Imports only `mnist_exp.errors` and `mnist_exp.interruption`.
"""
