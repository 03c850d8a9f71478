"""Build of the C kernels, once per relevant instruction set, on x86-64 Linux.

If they do not compile (no compiler), the installation continues without them and torch does the
work. ``MNIST_EXP_KERNELS=torch`` leaves them out: the wheel is then one for every platform. All
other settings are in pyproject.toml.
"""

import os
import platform
import sys
from glob import glob

from setuptools import Extension, find_namespace_packages, find_packages, setup

PACKAGE = "mnist_exp.cpu.kernels"
SOURCES = "mnist_exp/cpu/kernels/csrc"
FLAGS = ["-O3", "-pthread", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-g0"]
BUILDS = {
    "avx512": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        *("-mavx2", "-mfma", "-mbmi2", "-mpopcnt"),
    ],
    "avx2": ["-mavx2", "-mfma"],
}

WANTED = (
    sys.platform == "linux"
    and platform.machine() == "x86_64"
    and os.environ.get("MNIST_EXP_KERNELS") != "torch"  # as at run time
)

if __name__ == "__main__":
    setup(
        packages=[
            *find_packages(include=["mnist_exp", "mnist_exp.*"]),
            *find_namespace_packages(include=["hydra_plugins.*"]),
            "mnist_exp.conf",
        ],
        ext_modules=[
            Extension(
                f"{PACKAGE}._{build}",
                sources=sorted(glob(f"{SOURCES}/*.c")),
                depends=sorted(glob(f"{SOURCES}/*.h")),
                extra_compile_args=FLAGS + instructions,
                # bind calls within the library, not to namesakes elsewhere
                extra_link_args=["-pthread", "-Wl,-Bsymbolic"],
                libraries=["m"],
                optional=True,
            )
            for build, instructions in BUILDS.items()
            if WANTED
        ],
    )
