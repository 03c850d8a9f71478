"""Muon: momentum whose direction is made orthogonal, for matrices and convolution kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mnist_exp.errors import UserError
from mnist_exp.kernels import kernels_for

# Coefficients of the quintic iteration, chosen for a steep slope at 0: Keller Jordan,
# "Muon: an optimizer for hidden layers in neural networks", 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)
SMALL_SIDE = 64  # for the kernels (SIDE in orthogonalize.c); torch works on them together
STEPS_AT_ONCE = 5  # iterations on G alone; rounding grows twelvefold in each, so more would show


def orthogonalize(matrices: Sequence[Tensor], steps: int) -> list[Tensor]:
    """Return roughly the nearest semi-orthogonal matrices: singular values from about 0.7 to 1.2.

    The iteration of Newton and Schulz, ``X <- (a + b G + c G^2) X`` with ``G = X X^T``, multiplies
    X by polynomials in G alone. So five of them at a time are done on G, whose sides are the
    shorter ones of X, and X is multiplied a single time. Small matrices go through the compiled
    kernels or, where there are none, through torch all at once.

    Parameters
    ----------
    matrices : sequence of Tensor
        float32 [R, C] each.
    steps : int
        Iterations; 5 are enough.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    small = [i for i, x in enumerate(wide) if len(x) <= SMALL_SIDE]
    copies = [wide[i].clone(memory_format=torch.contiguous_format) for i in small]
    if kernels := kernels_for(*copies):
        for i, copy in zip(small, copies, strict=True):
            kernels.orthogonalize(copy, steps, STEPS_AT_ONCE, QUINTIC)
            wide[i] = copy
        small = []
    groups = [small] if small else []
    groups += [[i] for i, x in enumerate(wide) if len(x) > SMALL_SIDE]
    for group in groups:
        for done in range(0, steps, STEPS_AT_ONCE):
            now = min(STEPS_AT_ONCE, steps - done)
            factors = _factors([wide[i] for i in group], now, normalise=done == 0)
            for i, factor in zip(group, factors, strict=True):
                wide[i] = factor[: len(wide[i]), : len(wide[i])] @ wide[i]
    return [
        x.T if matrix.shape[0] > matrix.shape[1] else x
        for x, matrix in zip(wide, matrices, strict=True)
    ]


def _factors(wide: Sequence[Tensor], steps: int, normalise: bool) -> Tensor:
    """Return what ``steps`` iterations multiply each matrix by, from the left: [K, R, R].

    R is the largest number of rows; matrices with fewer are continued with zeros. With
    ``normalise`` they are divided by their norms first.
    """
    a, b, c = QUINTIC
    rows = max(map(len, wide))
    gram = wide[0].new_zeros(len(wide), rows, rows)
    for whole, x in zip(gram, wide, strict=True):
        whole[: len(x), : len(x)] = x @ x.T
    norms = gram.new_ones(len(wide), 1, 1)
    if normalise:
        norms = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt_().add_(1e-7).view(-1, 1, 1)
        gram /= norms**2
    factor: Tensor | None = None
    for step in range(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if step < steps - 1:
            gram = polynomial @ (gram @ polynomial)
    assert factor is not None, "at least one step"
    return factor / norms


class Muon(Optimizer):
    """Muon for weights of two and more dimensions, Adam for vectors such as biases.

    A kernel [out, in, height, width] counts as a matrix of R = out rows and C = in * height * width
    columns; torch.optim.Muon takes matrices alone. The step is, with Nesterov momentum m,
    ``lr * sqrt(max(1, R / C)) * orthogonalize(m)``. Schedulers act on ``lr``, and the rate of the
    vectors follows in proportion.

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
        lr: float,
        vector_lr: float,
        momentum: float,
        beta2: float,
        steps: int,
    ) -> None:
        for name, rate in (("lr", lr), ("vector_lr", vector_lr)):
            if not 0 < rate < float("inf"):
                raise UserError(f"optimizer.{name}={rate}: a rate must be above 0 and finite.")
        for name, decay in (("momentum", momentum), ("beta2", beta2)):
            if not 0 <= decay < 1:
                raise UserError(f"optimizer.{name}={decay}: must be at least 0 and below 1.")
        if steps < 1:
            raise UserError(f"optimizer.steps={steps}: must be a whole number of at least 1.")
        # the ratio and not vector_lr: schedulers change lr alone
        ratio = vector_lr / lr
        defaults = {"lr": lr, "vector_to_matrix": ratio, "momentum": momentum}
        super().__init__(params, defaults | {"beta2": beta2, "steps": steps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; ``closure`` as in ``torch.optim.SGD``."""
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
        ahead = [m.flatten(1) for m in nesterov]  # (out, in, height, width) -> (out, in * ...)
        for p, update in zip(matrices, orthogonalize(ahead, group["steps"]), strict=True):
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
        """Return what the state holds of each parameter under ``name``, zeros at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]
