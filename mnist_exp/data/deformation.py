"""Where the pixels of deformed images come from: affine maps and random smooth displacements."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

RADIANS = math.pi / 180  # per degree
LEAST_VARIANCE = 1e-4  # of a field along one direction, as a share of the largest


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Return ``images`` [B, C, H, W] at the positions [B, H, W, 2], bilinear, black outside."""
    return F.grid_sample(images, grid, align_corners=False)


def affine_matrices(
    *,
    angle: Tensor,
    shift_x: Tensor,
    shift_y: Tensor,
    scale: Tensor,
    shear: Tensor,
    ratio: float = 1.0,
) -> Tensor:
    """Return the matrices [B, 2, 3] that map output positions to input positions.

    An image is rotated about its centre, sheared and enlarged, then shifted: torchvision's
    RandomRotation followed by its RandomAffine. Positions run from -1 to 1 along each axis, as in
    ``torch.nn.functional.affine_grid``.

    Parameters
    ----------
    angle, shear : Tensor
        [B], in degrees, with the signs of ``torchvision.transforms.functional.affine``.
    shift_x, shift_y : Tensor
        [B], as a share of the image's width and height.
    scale : Tensor
        [B]; above 1 enlarges.
    ratio : float
        Height / width of the images.
    """
    angle, shear = angle * RADIANS, shear * RADIANS  # torch.deg2rad takes 10 times as long
    cos, sin, tan = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.tan(shear)
    # forward: p -> scale * [[1, -tan], [0, 1]] @ [[cos, -sin], [sin, cos]] @ p + shift
    inverse = ((cos, (cos * tan + sin) * ratio), (-sin / ratio, cos - sin * tan))
    rows = ((x, y, -2 * (x * shift_x + y * shift_y)) for x, y in inverse)
    return torch.stack([value for row in rows for value in row], dim=-1).view(-1, 2, 3)


def affine_grid(matrices: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.affine_grid(..., align_corners=False)``, ten times faster.

    Parameters
    ----------
    matrices : Tensor
        [B, 2, 3].
    height, width : int
        Size of the output images.

    Returns
    -------
    Tensor
        Positions [B, height, width, 2] from -1 to 1, x before y. In memory all x of an image come
        before all y, the layout of one matrix product; ``F.grid_sample`` is no slower on it.
    """
    places = _places(height, width, matrices.device, matrices.dtype)
    return (matrices.view(-1, 3) @ places).view(-1, 2, height, width).permute(0, 2, 3, 1)


@cache
@torch.inference_mode(False)  # cached: later callers may need gradients
def _places(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return x, y and 1 of every pixel, [3, height * width]."""
    x, y = ((torch.arange(n, device=device, dtype=dtype) * 2 + 1) / n - 1 for n in (width, height))
    return torch.stack([x.repeat(height), y.repeat_interleave(width), x.new_ones(height * width)])


def smooth_fields(
    count: int, height: int, width: int, sigma: float, generator: torch.Generator
) -> Tensor:
    """Return random smooth vector fields [count, height, width, 2], x before y.

    Both components are uniform noise from -1 to 1 at every pixel, smoothed by a Gaussian of
    standard deviation ``sigma`` pixels (Simard, Steinkraus & Platt, ICDAR 2003); beyond the image
    the noise is 0. A smoothed value is a sum over many pixels, so the fields are drawn as normal
    ones of the same covariance, from a few numbers instead of one a pixel.
    """
    rows, columns = (_smooth_factor(n, sigma, generator.device) for n in (height, width))
    shape = (count, 2, rows.shape[1], columns.shape[1])
    noise = torch.randn(shape, generator=generator, device=generator.device)
    spread = 1 / math.sqrt(3)  # standard deviation of the uniform noise
    return (rows @ (noise * spread) @ columns.T).permute(0, 2, 3, 1)


@cache
@torch.inference_mode(False)
def _smooth_factor(size: int, sigma: float, device: torch.device) -> Tensor:
    """Return F [size, k], where F F' is the covariance of smoothed white noise along one axis."""
    places = torch.arange(size, dtype=torch.float64, device="cpu")
    kernel = torch.exp(-(((places[:, None] - places) / sigma) ** 2) / 2)
    kernel /= math.sqrt(2 * math.pi) * sigma
    variances, directions = torch.linalg.eigh(kernel @ kernel.T)
    kept = variances > LEAST_VARIANCE * variances[-1]
    return (directions[:, kept] * variances[kept].sqrt()).float().to(device)
