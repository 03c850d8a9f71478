"""The device of other_device.cpp: compiled, loaded and given to torch under the name "gpu"."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import types
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "other_device.cpp"
BUILD = FOLDER.parents[1] / "build" / "other_device"
NAME = "gpu"


def compiler() -> str | None:
    """Return the C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++"))


def library() -> Path:
    """Return the compiled library; it is compiled once for a source and a version of torch.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not compile.
    """
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]*")))
    key = hashlib.sha256(sources + torch.__version__.encode()).hexdigest()[:16]
    found = BUILD / f"{key}.so"
    if not found.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        partial, of_torch = BUILD / f"{key}.{os.getpid()}", Path(torch.__file__).parent
        flags = (
            f"-std=c++20 -O1 -g0 -fPIC -shared -isystem {of_torch / 'include'} -L{of_torch / 'lib'}"
        )
        libraries = ["-ltorch", "-ltorch_cpu", "-lc10"]
        command = [compiler() or "", *flags.split(), str(SOURCE), "-o", str(partial), *libraries]
        subprocess.run(command, check=True)
        partial.replace(found)
    return found


def load() -> Any:
    """Give torch the device; return the functions of the library. Once a process."""
    torch.ops.load_library(library())
    functions = torch.ops.other_device
    torch.utils.rename_privateuse1_backend(NAME)
    module: Any = types.ModuleType(f"torch.{NAME}")
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.device = lambda device: contextlib.nullcontext()
    module.manual_seed = module.manual_seed_all = functions.seed
    module.get_rng_state = lambda device=NAME: functions.random_state()
    module.set_rng_state = lambda state, device=NAME: functions.set_random_state(state)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch._register_device_module(NAME, module)
    return functions


class RealDevice:
    """What stands for the imitation's functions on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def allow_float64(self, allowed: bool) -> None:
        """Leave it to the hardware."""

    def operations(self) -> int:
        """Return the number of tensors that were allocated on an NVIDIA GPU, each by an operation.

        Apple's GPUs count none; there `results["device"]` alone says where a run was.
        """
        return int(torch.cuda.memory_stats().get("allocation.all.allocated", 0))
