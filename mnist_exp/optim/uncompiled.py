"""Optimizers that start without torch.compile."""

from __future__ import annotations

from inspect import unwrap

from torch.optim import Optimizer


class Uncompiled(Optimizer):
    """torch's base class without the wrappers that keep torch.compile away from its methods.

    Each wrapper imports torch.compile's machinery when it is first called, the first when an
    optimizer is made: two seconds. Without wrappers, as in another torch, nothing changes.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)
