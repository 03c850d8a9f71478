"""Matrix products of inputs that mostly share one value, such as MNIST's background pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mnist_exp.cpu.kernels import Kernels, kernels_for

FEWEST_OUTPUTS, FEWEST_ROWS = 32, 64  # below, the density check does not pay
ROWS_LOOKED_AT = 16


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``torch.nn.functional.linear``, skipping background inputs where that pays.

    Parameters
    ----------
    x : Tensor
        [B, in].
    weight, bias : Tensor
        [out, in] and [out].
    """
    if (kernels := _that_pay(x, len(weight))) is not None:
        background = x[0, 0].item()
        raised = bias + background * weight.sum(1)
        outputs = kernels.linear_outputs(x, background, weight, raised)
        if outputs is not None:
            return outputs
    return F.linear(x, weight, bias)


def linear_weight_gradient(delta: Tensor, x: Tensor) -> Tensor:
    """Return ``delta.T @ x`` [out, in], skipping background inputs where that pays.

    Parameters
    ----------
    delta : Tensor
        [B, out], gradient of a linear layer's outputs.
    x : Tensor
        [B, in], the layer's inputs.
    """
    if (kernels := _that_pay(x, delta.shape[-1])) is not None:
        background = x[0, 0].item()
        product = kernels.linear_weight_gradient(x, background, delta)
        if product is not None:
            return product.addr_(delta.sum(0), x.new_full((x.shape[1],), background))
    return delta.T @ x


def _that_pay(x: Tensor, outputs: int) -> Kernels | None:
    """Return the kernels if they multiply ``x`` [B, in] faster than torch, else None."""
    if x.ndim != 2 or len(x) < FEWEST_ROWS or not x.shape[1] or outputs < FEWEST_OUTPUTS:
        return None
    kernels = kernels_for(x)
    if kernels is None:
        return None
    density = kernels.density(x, ROWS_LOOKED_AT, x[0, 0].item())
    return kernels if density < kernels.measured.largest_density else None
