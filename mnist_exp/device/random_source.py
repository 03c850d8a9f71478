"""Random numbers for devices: seeded, resumable and cheap on all hardware."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class RandomSource:
    """A stream of uniform and normal float32 numbers on one torch device.

    On the CPU, where torch draws numbers one by one, uniform numbers come from many xorshift64
    generators side by side (G. Marsaglia, Xorshift RNGs, J. Stat. Software 8 (14), 2003), four
    numbers per generator and step; NumPy's SFC64 seeds them.

    Parameters
    ----------
    seed : int
        Non-negative.
    device : torch.device
        Device of the numbers.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        if device.type == "cpu":
            self._bits = np.random.SFC64(seed)
            self._numpy = np.random.Generator(self._bits)
            self._set_lanes(np.empty(0, dtype=np.uint64))
        else:
            self._torch = torch.Generator(device).manual_seed(seed)

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` numbers in [0, 1), float32.

        On the CPU a number has 24 bits: 16 of its own and, below them, 8 shared by the whole draw.
        Each number is uniform at 24-bit resolution, which keeps stochastic rounding unbiased even
        for the tiny steps of retention. The next call may overwrite the numbers.
        """
        if self.device.type != "cpu":
            return torch.rand(count, generator=self._torch, device=self.device, dtype=torch.float32)
        words, lowest = self.generators(count)
        shifted = self._shifted[: len(words)]
        for shift, by in ((np.left_shift, 13), (np.right_shift, 7), (np.left_shift, 17)):
            shift(words, np.uint64(by), out=shifted)
            np.bitwise_xor(words, shifted, out=words)
        own = torch.from_numpy(words.view(np.int16)[:count])
        numbers = self._numbers[:count].copy_(own)
        return torch.add(numbers.new_tensor(lowest), numbers, alpha=2**-16, out=numbers)

    def generators(self, count: int) -> tuple[npt.NDArray[np.uint64], float]:
        """Return the states behind ``count`` numbers, for a kernel that draws them itself.

        Returns
        -------
        states : ndarray
            States of the xorshift64 generators, uint64 [ceil(count / 4)]. The kernel advances each
            by one step; the new state, split into four int16 from the lowest bits up, gives the
            own bits of four numbers.
        lowest : float
            A number is ``lowest + 2**-16 * own``.
        """
        needed = -(-count // 4)
        if len(self._lanes) < needed:
            more = self._bits.random_raw(needed - len(self._lanes))
            self._set_lanes(np.concatenate([self._lanes, np.maximum(more, 1)]))  # 0 would stay 0
        shared = int(self._numpy.integers(256)) / 256
        return self._lanes[:needed], 0.5 + shared * 2**-16

    def seed(self) -> int:
        """Return 64 random bits, for a kernel on the CPU that draws its own numbers."""
        return int(self._bits.random_raw())

    def _set_lanes(self, lanes: npt.NDArray[np.uint64]) -> None:
        self._lanes = lanes  # generator states, enough for the largest draw so far
        # scratch space, reused: fresh memory on every call costs as much as the work itself
        self._shifted = np.empty_like(lanes)
        self._numbers = torch.empty(4 * len(lanes), dtype=torch.float32, device="cpu")

    def normal(self, count: int) -> Tensor:
        """Return ``count`` standard normal numbers, float32."""
        if self.device.type != "cpu":
            return torch.randn(
                count, generator=self._torch, device=self.device, dtype=torch.float32
            )
        return torch.from_numpy(self._numpy.standard_normal(count, dtype=np.float32))

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers and tensors."""
        if self.device.type != "cpu":
            return {"torch": self._torch.get_state()}
        state = self._bits.state
        words = [int(word) for word in state["state"]["state"]]
        half = [int(state["has_uint32"]), int(state["uinteger"])]
        lanes = torch.from_numpy(self._lanes.view(np.int64).copy())
        return {"words": words, "half": half, "lanes": lanes}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue the saved stream.

        Raises
        ------
        ValueError
            If the state comes from another kind of hardware, whose stream differs.
        """
        if ("torch" in saved) != (self.device.type != "cpu"):
            raise ValueError(
                f"the random state of the devices was not saved on {self.device}; "
                "resume on the kind of hardware the run started on."
            )
        if self.device.type != "cpu":
            self._torch.set_state(saved["torch"].cpu())
            return
        self._set_lanes(saved["lanes"].numpy().view(np.uint64).copy())
        has_half, half = saved["half"]
        self._bits.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.array(saved["words"], dtype=np.uint64)},
            "has_uint32": has_half,
            "uinteger": half,
        }
