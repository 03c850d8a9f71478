"""Elastic distortion equals the published one in distribution, and is off at strength 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import open_dict
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.data import Dataset
from mnist_exp.data.augment import Augmentation
from mnist_exp.data.deformation import smooth_fields
from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import hash_config, training_config
from tests.conftest import Compose

AFFINE_OFF: dict[str, Any] = {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Tensor:
    """100 test images as pixels [100, 1, 28, 28] in [0, 1]."""
    return mnist.test_images[:100].unsqueeze(1).float() / 255


def augmented(images: Tensor, seed: int = 0, **settings: float) -> Tensor:
    return Augmentation(**settings)(images, generator=generator(seed), erase_value=0.0)


def simard_s_field(height: int, width: int, sigma: float, noise: Tensor) -> Tensor:
    """Smooth uniform noise [height, width] by a sum over all pixels for each pixel."""
    rows, columns = (torch.arange(n).double() for n in (height, width))
    field = torch.empty(height, width)
    for y in range(height):
        for x in range(width):
            squared = (rows - y)[:, None] ** 2 + (columns - x) ** 2
            gaussian = torch.exp(-squared / (2 * sigma**2)) / (2 * torch.pi * sigma**2)
            field[y, x] = (gaussian * noise).sum()
    return field


@pytest.mark.parametrize(("height", "width", "sigma"), [(10, 10, 2.0), (8, 14, 1.0), (9, 6, 5.0)])
def test_fields_have_the_covariance_of_smoothed_uniform_noise(
    height: int, width: int, sigma: float
) -> None:
    pixels = height * width
    answers = torch.stack(  # of the smoothing to noise at one pixel alone: all that it does
        [
            simard_s_field(height, width, sigma, one.view(height, width)).flatten()
            for one in torch.eye(pixels)
        ]
    )
    expected = answers.T @ answers / 3  # uniform noise from -1 to 1 has variance 1/3
    fields = smooth_fields(40_000, height, width, sigma, generator())
    for component in fields.flatten(1, 2).unbind(-1):
        found = component.T @ component / len(component)
        error = (found - expected).abs().max() / expected.max()
        assert error < 0.04  # five standard errors are sqrt(2 / 40,000) * 5 = 0.035
        assert (component.mean(0).abs() < 0.03 * expected.max().sqrt()).all()  # six


def test_components_and_images_are_independent() -> None:
    fields = smooth_fields(20_000, 12, 12, 3.0, generator())[:, 6, 6]  # [20,000, 2]
    assert torch.corrcoef(fields.T)[0, 1].abs() < 0.04
    assert torch.corrcoef(torch.stack([fields[:-1, 0], fields[1:, 0]]))[0, 1].abs() < 0.04


@given(st.floats(0.5, 100), st.integers(1, 30), st.integers(1, 30))
def test_any_smoothing_of_any_size_gives_finite_fields(
    sigma: float, height: int, width: int
) -> None:
    fields = smooth_fields(3, height, width, sigma, generator())
    assert fields.shape == (3, height, width, 2)
    assert fields.isfinite().all()
    assert (fields.abs() < 5).all()


@pytest.mark.parametrize("off", [{"elastic_alpha": 0.0}, {"elastic_alpha": 34.0, "strength": 0.0}])
def test_without_strength_the_affine_map_alone_is_left_bit_for_bit(
    off: dict[str, float], digits: Tensor
) -> None:
    affine = Augmentation(strength=off.get("strength", 1.0))
    found, expected = (
        augment(digits, generator=generator(), erase_value=0.0)
        for augment in (Augmentation(**off), affine)
    )
    assert torch.equal(found, expected)


def test_the_elastic_part_leaves_the_draws_of_the_affine_map(digits: Tensor) -> None:
    affine = augmented(digits)
    nearly = augmented(digits, elastic_alpha=1e-3)
    assert not torch.equal(nearly, affine)
    torch.testing.assert_close(nearly, affine, rtol=0, atol=1e-3)


def test_alpha_is_the_displacement_of_pixels_along_both_axes() -> None:
    """Of images whose value grows by 1 a pixel along one axis, of different height and width."""
    height, width, alpha, sigma = 31, 21, 5.0, 2.0
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    slopes = torch.stack([x, y]).float().unsqueeze(1)  # [2, 1, H, W]
    found = augmented(slopes, **AFFINE_OFF, elastic_alpha=alpha, elastic_sigma=sigma)
    fields = alpha * smooth_fields(2, height, width, sigma, generator())
    inside = (slice(4, -4), slice(4, -4))
    for number in (0, 1):  # the slope of x, then that of y
        moved = (found - slopes)[number, 0][inside]
        torch.testing.assert_close(moved, fields[number, ..., number][inside], atol=1e-4, rtol=0)


def test_a_seed_gives_the_same_distortion_and_another_seed_another(digits: Tensor) -> None:
    first, again, other = (augmented(digits, seed, elastic_alpha=34.0) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6


def test_every_image_and_all_its_colours_move_by_one_field(digits: Tensor) -> None:
    same = digits[:1].expand(20, 3, 28, 28)
    moved = augmented(same, **AFFINE_OFF, elastic_alpha=34.0)
    assert torch.equal(moved[:, 0], moved[:, 2])
    assert len(torch.unique(moved[:, 0].flatten(1), dim=0)) == 20
    assert F.mse_loss(moved[:, :1], digits[:1].expand(20, 1, 28, 28)) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elastic_alpha": -1.0}, r"augmentation\.elastic_alpha=-1"),
        ({"elastic_sigma": 0.4}, r"augmentation\.elastic_sigma=0\.4.*at least 0\.5"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**change)


def test_without_distortion_and_noise_a_run_is_the_one_it_was_before_there_were_any(
    compose_config: Compose,
) -> None:
    config, older = (compose_config("augmentation=light") for _ in range(2))
    with open_dict(older):
        del older.augmentation.elastic_alpha
        del older.augmentation.elastic_sigma
        del older.augmentation.noise
    elastic, noisy = compose_config("augmentation=elastic"), compose_config("augmentation=noise")
    now, before, *others = (
        hash_config(training_config(each)) for each in (config, older, elastic, noisy)
    )
    assert now == before
    assert now not in others
