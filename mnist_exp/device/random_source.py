"""Random numbers for devices: seeded, resumable and cheap on every kind of hardware."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class RandomSource:
    """A stream of uniform and normal float32 numbers on one torch device.

    On the CPU, where torch draws one number after the other, the bits come from NumPy's SFC64 and
    a uniform number takes 16 of them.

    Parameters
    ----------
    seed : int
        Not negative.
    device : torch.device
        Where the numbers are needed.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        if device.type == "cpu":
            self._bits = np.random.SFC64(seed)
            self._numpy = np.random.Generator(self._bits)
        else:
            self._torch = torch.Generator(device).manual_seed(seed)

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` numbers in [0, 1), float32.

        On the CPU a number has 24 bits: 16 of its own, and below them 8 shared by the whole draw.
        Each number is uniform at full float32 resolution, which keeps stochastic rounding unbiased
        even for the tiny steps of retention.
        """
        if self.device.type != "cpu":
            return torch.rand(count, generator=self._torch, device=self.device)
        own = self._bits.random_raw(-(-count // 4)).view(np.int16)[:count]
        shared = int(self._numpy.integers(256)) / 256
        numbers = torch.from_numpy(own).to(torch.float32)
        lowest = torch.tensor(0.5 + shared * 2**-16)
        return torch.add(lowest, numbers, alpha=2**-16, out=numbers)

    def normal(self, count: int) -> Tensor:
        """Return ``count`` standard normal numbers, float32."""
        if self.device.type != "cpu":
            return torch.randn(count, generator=self._torch, device=self.device)
        return torch.from_numpy(self._numpy.standard_normal(count, dtype=np.float32))

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers or one tensor."""
        if self.device.type != "cpu":
            return {"torch": self._torch.get_state()}
        state = self._bits.state
        words = [int(word) for word in state["state"]["state"]]
        return {"words": words, "half": [int(state["has_uint32"]), int(state["uinteger"])]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where the saved stream stood.

        Raises
        ------
        ValueError
            If it was saved on another kind of hardware, whose stream differs.
        """
        if ("torch" in saved) != (self.device.type != "cpu"):
            raise ValueError(
                f"the random state of the devices comes from other hardware than {self.device}; "
                "resume on the kind of hardware the run started on."
            )
        if self.device.type != "cpu":
            self._torch.set_state(saved["torch"].cpu())
            return
        has_half, half = saved["half"]
        self._bits.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.array(saved["words"], dtype=np.uint64)},
            "has_uint32": has_half,
            "uinteger": half,
        }
