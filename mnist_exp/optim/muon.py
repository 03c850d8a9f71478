"""Muon: orthogonalized momentum for matrices and convolution kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mnist_exp.cpu import ops
from mnist_exp.optim.uncompiled import Uncompiled
from mnist_exp.schema.parts import MUON
from mnist_exp.schema.rule import check_settings

# Coefficients of the quintic iteration, chosen for a steep slope at 0: Keller Jordan,
# "Muon: an optimizer for hidden layers in neural networks", 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS_AT_ONCE = 5  # iterations on G alone; each grows rounding errors twelvefold


def orthogonalize(matrix: Tensor, steps: int) -> Tensor:
    """Return an approximation of the nearest semi-orthogonal matrix, singular values 0.7 to 1.2.

    Parameters
    ----------
    matrix : Tensor
        float32 [R, C].
    steps : int
        Iterations of `newton_schulz`; 5 suffice.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T, steps).T
    return ops.orthogonalize(matrix, steps, STEPS_AT_ONCE, QUINTIC, newton_schulz)


def orthogonalize_together(matrices: list[Tensor], steps: int) -> list[Tensor]:
    """Return `orthogonalize` of each matrix, from products of all at once, for GPUs.

    Rows and columns of zeros bring them to one shape and stay zeros.
    """
    flat = [m.T if m.shape[0] > m.shape[1] else m for m in matrices]
    rows, columns = (max(m.shape[axis] for m in flat) for axis in (0, 1))
    padded = flat[0].new_zeros(len(flat), rows, columns)
    for place, m in zip(padded, flat, strict=True):
        place[: m.shape[0], : m.shape[1]] = m
    found = newton_schulz(padded, steps)
    cut = [one[: m.shape[0], : m.shape[1]] for one, m in zip(found, flat, strict=True)]
    return [one if one.shape == m.shape else one.T for one, m in zip(cut, matrices, strict=True)]


def newton_schulz(X: Tensor, steps: int) -> Tensor:
    """Iterate ``X <- (a + b G + c G^2) X`` with ``G = X X^T``, from ``X / |X|`` [..., R, C].

    R is at most C. Each iteration multiplies X by a polynomial in G. So up to five of them run on
    G, an [R, R] matrix, and X is multiplied once by the product of the polynomials.
    """
    a, b, c = QUINTIC
    identity = torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)
    norm = X.square().sum((-2, -1), keepdim=True).sqrt() + 1e-7
    for done in range(0, steps, STEPS_AT_ONCE):
        G = X @ X.mT / norm**2
        product = identity
        for _ in range(min(STEPS_AT_ONCE, steps - done)):
            P = a * identity + b * G + c * (G @ G)
            product = P @ product
            G = P @ (G @ P)
        X = product / norm @ X
        norm = torch.ones_like(norm)
    return X


class Muon(Uncompiled):
    """Muon for weights of two or more dimensions, Adam for vectors such as biases.

    A kernel [out, in, height, width] counts as a matrix of R = out rows and C = in * height * width
    columns; torch.optim.Muon takes only matrices. With Nesterov momentum m the step is
    ``lr * sqrt(max(1, R / C)) * orthogonalize(m)``. Schedulers act on ``lr``; ``vector_lr`` keeps
    its proportion to it.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups.
    lr : float
        Rate of the matrices, above 0.
    vector_lr : float
        Rate of the vectors, above 0.
    momentum : float
        In [0, 1), of matrices; also Adam's first beta.
    beta2 : float
        In [0, 1), Adam's second beta.
    steps : int
        Iterations of `orthogonalize`, at least 1.

    Raises
    ------
    UserError
        If a setting is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.02,
        vector_lr: float = 0.01,
        momentum: float = 0.9,
        beta2: float = 0.99,
        steps: int = 5,
    ) -> None:
        settings = {"momentum": momentum, "beta2": beta2, "steps": steps}
        check_settings(MUON, {"lr": lr, "vector_lr": vector_lr} | settings, "optimizer")
        # the ratio instead of vector_lr: schedulers change only lr
        super().__init__(params, {"lr": lr, "vector_to_matrix": vector_lr / lr} | settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; ``closure`` as in ``torch.optim.SGD``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [(p, p.grad) for p in group["params"] if p.grad is not None]
            self._move_matrices([row for row in moved if row[0].ndim > 1], group)
            self._move_vectors([row for row in moved if row[0].ndim <= 1], group)
        return loss

    def _move_matrices(self, moved: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        if not moved:
            return
        matrices, gradients = map(list, zip(*moved, strict=True))
        averages = self._remembered(matrices, "average")
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, averages, group["momentum"])
        flat = [ahead.flatten(1) for ahead in nesterov]  # kernels: (out, in * height * width)
        if flat[0].device.type == "cpu":
            updates = [orthogonalize(matrix, group["steps"]) for matrix in flat]
        else:
            updates = orthogonalize_together(flat, group["steps"])
        for p, update in zip(matrices, updates, strict=True):
            rows, columns = update.shape
            rate = group["lr"] * max(1.0, rows / columns) ** 0.5
            p.add_(update.reshape(p.shape), alpha=-rate)

    def _move_vectors(self, moved: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        if not moved:
            return
        vectors, gradients = map(list, zip(*moved, strict=True))
        averages, squares = (self._remembered(vectors, name) for name in ("average", "square"))
        for p in vectors:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        counts = [self.state[p]["step"] for p in vectors]
        beta1, beta2 = group["momentum"], group["beta2"]
        torch._foreach_lerp_(averages, gradients, 1 - beta1)
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta2)
        steps = torch._foreach_div(averages, [1 - beta1**count for count in counts])
        sizes = torch._foreach_div(squares, [1 - beta2**count for count in counts])
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, 1e-8)
        rate = group["lr"] * group["vector_to_matrix"]
        torch._foreach_addcdiv_(vectors, steps, sizes, value=-rate)

    def _remembered(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """Return the state tensor ``name`` of each parameter, initialised to zeros."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]
