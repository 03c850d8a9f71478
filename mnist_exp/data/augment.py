"""Random maps, brightness, contrast, erasing and noise, drawn for each image anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mnist_exp.data.deformation import affine_grid, affine_matrices, resample, smooth_fields
from mnist_exp.errors import UserError
from mnist_exp.schema.parts import AUGMENTATION
from mnist_exp.schema.rule import check_settings

Draw = Callable[..., Tensor]  # of a shape, to uniform numbers of that shape and the batch's

# Defaults of torchvision's RandomErasing, used by the published recipe.
ERASED_AREA = (0.02, 0.33)  # share of the image
ERASED_ASPECT = (0.3, 3.3)  # height / width
GREY_OF_COLOURS = (0.2989, 0.587, 0.114)  # shares of red, green and blue, as in torchvision
ERASE_ATTEMPTS = 10  # rectangles drawn per image to find one that fits

# Largest value of each setting times the strength.
LARGEST = {
    "degrees": 180.0,
    "translate": 1.0,
    "scale": 0.99,
    "shear": 89.0,
    "elastic_alpha": math.inf,
    "brightness": 1.0,
    "contrast": 1.0,
    "erasing": 1.0,
    "noise": math.inf,
}


class Augmentation:
    """Random rotation, affine map, elastic distortion, colour jitter, erasing, noise of each image.

    Without the elastic part equal in distribution to torchvision's RandomRotation, RandomAffine,
    ColorJitter, RandomErasing and GaussianNoise with ``clip=False`` in sequence, except that the
    geometric part is one composed map with one bilinear resampling. Pixels from outside the image
    are black. The defaults are those of ``augmentation=light``.

    Parameters
    ----------
    degrees : float
        Largest rotation, either way, in degrees.
    translate : float
        Largest shift along each axis, as a share of its length; rounded to whole pixels, as in
        torchvision.
    scale : float
        Images are enlarged by a factor from ``1 - scale`` to ``1 + scale``.
    shear : float
        Largest horizontal shear, either way, in degrees.
    elastic_alpha, elastic_sigma : float
        Size and smoothness of random displacements of the pixels, as in `smooth_fields`, in pixels;
        an alpha of 0 displaces none.
    brightness, contrast : float
        Each factor is drawn from ``1 - value`` to ``1 + value``; they act in random order.
    erasing : float
        Probability that a rectangle of the image is erased.
    noise : float
        Standard deviation of Gaussian noise, added to each pixel at last; the sum is not clamped.
    strength : float
        Multiplies all of the above but ``elastic_sigma``; 0 switches augmentation off.

    Raises
    ------
    UserError
        If a setting is negative or ``elastic_sigma`` below 0.5, or if a product with the strength
        exceeds ``LARGEST``.
    """

    def __init__(
        self,
        *,
        degrees: float = 5,
        translate: float = 0.05,
        scale: float = 0.05,
        shear: float = 2,
        elastic_alpha: float = 0.0,
        elastic_sigma: float = 4.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        erasing: float = 0.0,
        noise: float = 0.0,
        strength: float = 1.0,
    ) -> None:
        self.degrees = _scaled("degrees", degrees, strength)
        self.translate = _scaled("translate", translate, strength)
        self.scale = _scaled("scale", scale, strength)
        self.shear = _scaled("shear", shear, strength)
        self.elastic_alpha = _scaled("elastic_alpha", elastic_alpha, strength)
        check_settings(AUGMENTATION, {"elastic_sigma": elastic_sigma}, "augmentation")
        self.elastic_sigma = elastic_sigma
        self.brightness = _scaled("brightness", brightness, strength)
        self.contrast = _scaled("contrast", contrast, strength)
        self.erasing = _scaled("erasing", erasing, strength)
        self.noise = _scaled("noise", noise, strength)

    def __call__(self, images: Tensor, *, generator: torch.Generator, erase_value: float) -> Tensor:
        """Return the augmented images; ``images`` is not changed.

        Parameters
        ----------
        images : Tensor
            float32 ``[B, C, H, W]``, one or three channels, pixels in [0, 1].
        generator : torch.Generator
            Source of all randomness, on any device.
        erase_value : float
            Value of erased pixels. The mean of the data becomes 0 after normalisation, the value
            torchvision's RandomErasing writes.
        """
        batch, _, height, width = images.shape

        def draw(*shape: int) -> Tensor:
            uniform = torch.rand(*shape, batch, generator=generator, device=generator.device)
            return uniform.to(images.device)

        grid = self._grid(images, draw, generator)
        if grid is not None:
            images = resample(images, grid)
        if self.brightness or self.contrast:
            brightness, contrast, order = draw(3) * 2 - 1
            images = jitter_colour(
                images,
                brightness=1 + brightness * self.brightness,
                contrast=1 + contrast * self.contrast,
                brightness_first=order < 0,
            )
        if self.erasing:
            chance, top, left = draw(3)
            area, aspect = draw(2, ERASE_ATTEMPTS)
            rectangles = place_rectangles(area, aspect, top, left, height, width)
            images = erase(images, rectangles * (chance < self.erasing), erase_value)
        if self.noise:
            normal = torch.randn(images.shape, generator=generator, device=generator.device)
            images = images.add(normal.to(images.device), alpha=self.noise)
        return images

    def _grid(self, images: Tensor, draw: Draw, generator: torch.Generator) -> Tensor | None:
        """Return where in ``images`` the deformed ones lie, [B, H, W, 2]; None: where they are."""
        batch, _, height, width = images.shape
        grid = None
        if self.degrees or self.translate or self.scale or self.shear:
            angle, shift_x, shift_y, factor, shear = draw(5) * 2 - 1
            matrices = affine_matrices(
                angle=angle * self.degrees,
                shift_x=torch.round(shift_x * (self.translate * width)) / width,
                shift_y=torch.round(shift_y * (self.translate * height)) / height,
                scale=1 + factor * self.scale,
                shear=shear * self.shear,
                ratio=height / width,
            )
            grid = affine_grid(matrices, height, width)
        if self.elastic_alpha:
            if grid is None:
                grid = affine_grid(torch.eye(2, 3, device=images.device)[None], height, width)
            fields = smooth_fields(batch, height, width, self.elastic_sigma, generator)
            across, down = fields.to(images.device).mul_(self.elastic_alpha).unbind(-1)
            grid = grid + torch.stack([across * (2 / width), down * (2 / height)], dim=-1)
        return grid


def _scaled(name: str, value: float, strength: float) -> float:
    check_settings(AUGMENTATION, {name: value, "strength": strength}, "augmentation")
    scaled = value * strength
    if scaled > LARGEST[name]:
        raise UserError(
            f"augmentation.{name}={value:g} with augmentation.strength={strength:g}: their product "
            f"must be from 0 to {LARGEST[name]:g}."
        )
    return scaled


def jitter_colour(
    images: Tensor, *, brightness: Tensor, contrast: Tensor, brightness_first: Tensor
) -> Tensor:
    """Multiply pixels by ``brightness``, and their distance to the image's mean by ``contrast``.

    The mean is that of the grey levels; those of colours are mixed as in torchvision. Both are
    factors [B]; ``brightness_first``, bool [B], sets their order. Pixels are clamped to [0, 1]
    after each.
    """
    for brightness_now in (brightness_first, ~brightness_first):
        factor = torch.where(brightness_now, brightness, contrast)
        mean = images.mean(dim=(1, 2, 3)) if images.shape[1] == 1 else _mean_of_grey(images)
        offset = torch.where(brightness_now, 0, (1 - contrast) * mean)
        shape = (-1, 1, 1, 1)  # (B,) -> (B, 1, 1, 1)
        images = torch.addcmul(offset.view(shape), images, factor.view(shape)).clamp_(0, 1)
    return images


def _mean_of_grey(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3)) @ images.new_tensor(GREY_OF_COLOURS)  # (B, 3) -> (B,)


def place_rectangles(
    area: Tensor, aspect: Tensor, top: Tensor, left: Tensor, height: int, width: int
) -> Tensor:
    """Return a rectangle for each image, as int64 [4, B]: top, bottom, left, right; ends excluded.

    Parameters
    ----------
    area, aspect : Tensor
        Uniform in [0, 1), [attempts, B]. An image gets the first attempt that fits, or an empty
        rectangle if none fits.
    top, left : Tensor
        Uniform in [0, 1), [B].
    height, width : int
        Size of the images.
    """
    smallest, largest = ERASED_AREA
    pixels = (smallest + area * (largest - smallest)) * (height * width)
    narrowest, widest = (math.log(aspect) for aspect in ERASED_ASPECT)
    ratio = torch.exp(narrowest + aspect * (widest - narrowest))
    sizes = torch.stack([torch.sqrt(pixels * ratio), torch.sqrt(pixels / ratio)]).round()
    fits = (sizes[0] < height) & (sizes[1] < width)
    first = fits.int().argmax(dim=0)  # (attempts, B) -> (B,)
    rows, columns = (sizes * fits).gather(1, first.expand(2, 1, -1)).squeeze(1)  # (2, B)
    top = torch.floor(top * (height - rows + 1))
    left = torch.floor(left * (width - columns + 1))
    return torch.stack([top, top + rows, left, left + columns]).long()


def erase(images: Tensor, rectangles: Tensor, value: float) -> Tensor:
    """Return ``images`` [B, C, H, W] with ``value`` in the rectangles [4, B]."""
    top, bottom, left, right = rectangles.view(4, -1, 1)
    y = torch.arange(images.shape[2], device=images.device)
    x = torch.arange(images.shape[3], device=images.device)
    inside_y = (y >= top) & (y < bottom)  # (B, H)
    inside_x = (x >= left) & (x < right)  # (B, W)
    mask = inside_y.unsqueeze(2) & inside_x.unsqueeze(1)  # (B, H, W)
    return images.masked_fill(mask.unsqueeze(1), value)
