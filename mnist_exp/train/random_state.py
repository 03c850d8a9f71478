"""States of torch's global random generators: the CPU's and the compute device's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor


def random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a network on ``device`` draws from."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Continue from what `random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)


def seed_random(device: torch.device, seed: int) -> None:
    """Seed these generators alone; ``torch.manual_seed`` seeds all devices."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            torch.get_device_module(device).manual_seed(seed)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restore the generators of `random_state` after a block."""
    states = random_state(device)
    try:
        yield
    finally:
        set_random_state(device, states)


@contextmanager
def all_random_states_kept() -> Iterator[None]:
    """Restore the generators of the CPU and of every device that torch has used."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    other = torch.accelerator.current_accelerator(check_available=True)
    if other is None or other.type == "cuda":
        other = torch.device("cpu")
    with torch.random.fork_rng(cuda), random_state_kept(other):
        yield
