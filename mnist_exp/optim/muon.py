"""Muon: momentum whose direction is made orthogonal, for matrices and convolution kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mnist_exp.errors import UserError

# Coefficients of the quintic iteration, chosen for a steep slope at 0: Keller Jordan,
# "Muon: an optimizer for hidden layers in neural networks", 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, steps: int) -> Tensor:
    """Return roughly the nearest semi-orthogonal matrix: singular values from about 0.7 to 1.2.

    Parameters
    ----------
    matrix : Tensor
        Float [R, C].
    steps : int
        Iterations of Newton and Schulz; 5 are enough.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T  # (R, R), R the smaller side
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


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
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.ndim > 1:
                    self._matrix_step(p, p.grad, group)
                else:
                    self._vector_step(p, p.grad, group)
        return loss

    def _matrix_step(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(average, group["momentum"]).flatten(1)  # (out, in, ...) -> (out, in*)
        rows, columns = ahead.shape
        update = orthogonalize(ahead, group["steps"]).reshape(p.shape)
        p.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _vector_step(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state.update(average=torch.zeros_like(p), square=torch.zeros_like(p), step=0)
        state["step"] += 1
        beta1, beta2 = group["momentum"], group["beta2"]
        average = state["average"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["step"])
        square = state["square"].lerp_(gradient * gradient, 1 - beta2)
        square = square / (1 - beta2 ** state["step"])
        rate = group["lr"] * group["vector_to_matrix"]
        p.addcdiv_(average, square.sqrt_().add_(1e-8), value=-rate)
