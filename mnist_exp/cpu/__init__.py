"""What is there for speed on a CPU alone; `ops` is its one door.

The training loop, optimizers, devices and data call `mnist_exp.cpu.ops` and know nothing of builds,
threads or addresses. Imports errors only.
"""
