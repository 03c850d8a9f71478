"""Augmentation matches torchvision's transforms of single images, in value and distribution."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms
from torchvision.transforms import functional as TF

from mnist_exp.data import Dataset
from mnist_exp.data.augment import Augmentation, erase, jitter_colour, place_rectangles
from mnist_exp.data.deformation import affine_grid, affine_matrices, resample
from mnist_exp.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
BILINEAR = transforms.InterpolationMode.BILINEAR
MEAN = 0.1307  # of MNIST's pixels in [0, 1]
OFF = {
    "degrees": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "shear": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "erasing": 0.0,
    "noise": 0.0,
    "strength": 1.0,
}


def options(name: str) -> dict[str, Any]:
    """The arguments that conf/augmentation gives to Augmentation."""
    settings_: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    settings_.pop("_target_")
    return settings_


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Tensor:
    """400 test images as pixels [400, 1, 28, 28] in [0, 1]."""
    return mnist.test_images[:400].unsqueeze(1).float() / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ANGLES = st.floats(-40, 40)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    angle=ANGLES,
    shift_x=st.integers(-5, 5),
    shift_y=st.integers(-5, 5),
    scale=st.floats(0.7, 1.4),
    shear=ANGLES,
)
def test_a_sheared_scaled_shifted_image_equals_torchvision_s(
    digits: Tensor, angle: float, shift_x: int, shift_y: int, scale: float, shear: float
) -> None:
    digit = digits[:1]

    def ours(angle: float, shear: float) -> Tensor:
        numbers = [angle, shift_x / 28, shift_y / 28, scale, shear]
        names = ["angle", "shift_x", "shift_y", "scale", "shear"]
        values: dict[str, Any] = {
            name: torch.tensor([v]) for name, v in zip(names, numbers, strict=True)
        }
        return resample(digit, affine_grid(affine_matrices(**values), 28, 28))

    def torchvision_s(angle: float, shear: float) -> Tensor:
        shift, interpolation = [shift_x, shift_y], BILINEAR
        return TF.affine(digit, angle, shift, scale, [shear, 0.0], interpolation=interpolation)

    torch.testing.assert_close(ours(0.0, shear), torchvision_s(0.0, shear), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours(angle, 0.0), torchvision_s(angle, 0.0), rtol=0, atol=1e-4)


def test_the_composed_map_rotates_first_and_then_shears_and_shifts() -> None:
    line = torch.linspace(-5, 5, 28)
    y, x = torch.meshgrid(line, line, indexing="ij")
    # smooth, so resampling twice loses little more than once
    blob = torch.exp(-(2 * x**2 + (y - 1) ** 2 + x * y) / 4)[None, None]
    parameters = {"angle": 30.0, "shift_x": 2 / 28, "shift_y": -1 / 28, "scale": 1.1, "shear": 25.0}
    values: dict[str, Any] = {name: torch.tensor([v]) for name, v in parameters.items()}
    matrices = affine_matrices(**values)
    rotated = TF.affine(blob, 30.0, [0, 0], 1.0, [0.0], interpolation=BILINEAR)
    expected = TF.affine(rotated, 0.0, [2, -1], 1.1, [25.0, 0.0], interpolation=BILINEAR)
    composed = resample(blob, affine_grid(matrices, 28, 28))
    torch.testing.assert_close(composed, expected, rtol=0, atol=0.05)
    wrong_order = TF.affine(blob, 0.0, [0, 0], 1.1, [25.0, 0.0], interpolation=BILINEAR)
    wrong_order = TF.affine(wrong_order, 30.0, [2, -1], 1.0, [0.0], interpolation=BILINEAR)
    assert (wrong_order - expected).abs().max() > 0.2


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
def test_positions_are_those_of_torch(batch: int, height: int, width: int, seed: int) -> None:
    matrices = torch.randn(batch, 2, 3, generator=torch.Generator().manual_seed(seed))
    expected = F.affine_grid(matrices, [batch, 1, height, width], align_corners=False)
    torch.testing.assert_close(affine_grid(matrices, height, width), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(brightness=st.floats(0, 2), contrast=st.floats(0, 2), brightness_first=st.booleans())
def test_colours_equal_torchvision_s_image_by_image(
    digits: Tensor, brightness: float, contrast: float, brightness_first: bool
) -> None:
    digits = digits[:3]
    ours = jitter_colour(
        digits,
        brightness=torch.full((3,), brightness),
        contrast=torch.full((3,), contrast),
        brightness_first=torch.full((3,), brightness_first),
    )
    for image, result in zip(digits, ours, strict=True):
        if brightness_first:
            expected = TF.adjust_contrast(TF.adjust_brightness(image, brightness), contrast)
        else:
            expected = TF.adjust_brightness(TF.adjust_contrast(image, contrast), brightness)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_rectangles_have_the_distribution_of_torchvision_s() -> None:
    count = 20_000
    uniform = torch.rand(22, count, generator=generator())
    top, bottom, left, right = place_rectangles(
        uniform[:10], uniform[10:20], uniform[20], uniform[21], 28, 28
    )
    assert (top >= 0).all()
    assert (bottom <= 28).all()
    assert (left >= 0).all()
    assert (right <= 28).all()
    ours = torch.stack([top, left, bottom - top, right - left]).double()
    torch.manual_seed(0)
    blank = torch.zeros(1, 28, 28)
    get_params = transforms.RandomErasing.get_params
    drawn = [get_params(blank, (0.02, 0.33), (0.3, 3.3))[:4] for _ in range(4000)]
    theirs = torch.tensor(drawn).double().T
    # the standard error of a mean is at most 0.15
    torch.testing.assert_close(ours.mean(1), theirs.mean(1), rtol=0, atol=0.5)
    torch.testing.assert_close(ours.std(1), theirs.std(1), rtol=0, atol=0.4)
    torch.testing.assert_close(torch.corrcoef(ours), torch.corrcoef(theirs), rtol=0, atol=0.08)


def test_erase_fills_exactly_the_rectangle_and_an_empty_one_fills_nothing(digits: Tensor) -> None:
    rectangles = torch.tensor([[2, 5, 3, 20], [4, 4, 6, 6], [0, 28, 0, 28]]).T
    ours = erase(digits[:3], rectangles, 0.5)
    expected = TF.erase(digits[0], 2, 3, 3, 17, torch.tensor(0.5))
    assert torch.equal(ours[0], expected)
    assert torch.equal(ours[1], digits[1])
    assert (ours[2] == 0.5).all()


@pytest.mark.slow
def test_strong_augmentation_has_the_moments_of_the_published_transforms(digits: Tensor) -> None:
    """Mean and spread of each pixel, and of the image mean and variance; share of erased images."""
    published = transforms.Compose(
        [
            transforms.RandomRotation((-15, 15), interpolation=BILINEAR),
            transforms.RandomAffine(0, (0.1, 0.1), (0.9, 1.1), (-5.0, 5.0), interpolation=BILINEAR),
            transforms.ColorJitter(brightness=0.2, contrast=0.2),
            transforms.Normalize((MEAN,), (0.3081,)),
            transforms.RandomErasing(p=0.2),
        ]
    )
    torch.manual_seed(0)
    theirs = torch.stack([published(image) for _ in range(5) for image in digits])
    augment = Augmentation(**options("strong"))
    ours = augment(digits.repeat(40, 1, 1, 1), generator=generator(), erase_value=MEAN)
    ours = (ours - MEAN) / 0.3081
    # resampling twice blurs more than once, by under 0.1 in normalised pixels
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0, atol=0.15)
    for moment in (lambda x: x.mean((1, 2, 3)), lambda x: x.var((1, 2, 3))):
        a, b = moment(ours), moment(theirs)
        torch.testing.assert_close(a.mean(), b.mean(), rtol=0.1, atol=0.02)
        torch.testing.assert_close(a.std(), b.std(), rtol=0.1, atol=0.02)
    erased_ours, erased_theirs = ((x == 0).flatten(1).any(1).float().mean() for x in (ours, theirs))
    assert abs(erased_ours - 0.2) < 0.02
    assert abs(erased_theirs - 0.2) < 0.05


@pytest.mark.parametrize(
    ("setting", "value", "largest"),
    [("translate", 0.1, 3), ("translate", 0.25, 7), ("translate", 0.01, 0)],
)
def test_shifts_are_whole_pixels_and_within_range(setting: str, value: float, largest: int) -> None:
    dot = torch.zeros(2000, 1, 28, 28)
    dot[:, :, 14, 14] = 1.0
    moved = Augmentation(**OFF | {setting: value})(dot, generator=generator(), erase_value=0.0)
    positions = (moved > 0.99).nonzero()
    assert len(positions) == 2000
    offsets = positions[:, 2:] - 14
    assert offsets.amin() == -largest
    assert offsets.amax() == largest


@pytest.mark.parametrize("name", ["light", "strong"])
def test_strength_zero_leaves_images_as_they_are(name: str, digits: Tensor) -> None:
    augment = Augmentation(**options(name) | {"strength": 0.0})
    assert torch.equal(augment(digits, generator=generator(), erase_value=MEAN), digits)


@pytest.mark.parametrize("name", ["light", "strong"])
def test_images_differ_by_the_generator_alone_and_stay_in_range(name: str, digits: Tensor) -> None:
    augment = Augmentation(**options(name))
    before = digits.clone()
    first, again, other = (
        augment(digits, generator=generator(seed), erase_value=MEAN) for seed in (1, 1, 2)
    )
    assert torch.equal(digits, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == digits.shape
    assert first.dtype == digits.dtype
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6


def test_every_image_of_a_batch_gets_its_own_draw(digits: Tensor) -> None:
    same = digits[:1].repeat(50, 1, 1, 1)
    augmented = Augmentation(**options("light"))(same, generator=generator(), erase_value=MEAN)
    assert len(torch.unique(augmented.flatten(1), dim=0)) > 45


def test_noise_is_normal_independent_of_pixels_and_not_clamped(digits: Tensor) -> None:
    noisy = Augmentation(**OFF | {"noise": 0.2, "strength": 1.5})
    noise = noisy(digits, generator=generator(), erase_value=MEAN) - digits
    again = noisy(digits, generator=generator(), erase_value=MEAN) - digits
    assert torch.equal(noise, again)
    quantiles = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    below = (noise.flatten()[:, None] < 0.3 * quantiles).double().mean(dim=0)
    # standard error of a share over 313,600 pixels: below 0.001
    torch.testing.assert_close(below, torch.special.ndtr(quantiles.double()), atol=4e-3, rtol=0)
    correlations = torch.corrcoef(torch.stack([noise.flatten(), digits.flatten()]))
    assert correlations[0, 1].abs() < 0.01
    neighbours = torch.corrcoef(torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()]))
    assert neighbours[0, 1].abs() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"erasing": 0.6, "strength": 2.0}, r"augmentation\.erasing=0\.6 with .*strength=2"),
        ({"scale": 1.0}, r"augmentation\.scale=1 .* from 0 to 0\.99"),
        ({"degrees": -5.0}, r"augmentation\.degrees=-5"),
        ({"noise": -0.1}, r"augmentation\.noise=-0\.1"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**OFF | change)
