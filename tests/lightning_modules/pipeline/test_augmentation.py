"""Random augmentation, checked against every outcome there can be, or against values worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import AugmentationConfig, InputError
from lightning_modules.pipeline.augmentation import rotate

IMAGE = [[1, 2], [3, 4]]
SHIFTED = [
    [[0, 0], [0, 1]],
    [[0, 0], [1, 2]],
    [[0, 0], [2, 0]],
    [[0, 1], [0, 3]],
    [[1, 2], [3, 4]],
    [[2, 0], [4, 0]],
    [[0, 3], [0, 0]],
    [[3, 4], [0, 0]],
    [[4, 0], [0, 0]],
]
FLIPPED = [[[1, 2], [3, 4]], [[2, 1], [4, 3]]]
EVERY = AugmentationConfig(shift=2, horizontal_flip=True, rotation=20, erasing=0.5, noise=3)


def crops(padding: int) -> list[list[list[int]]]:
    """Every piece of 2×2 pixels of the image mirrored at its borders."""
    padded = np.pad(IMAGE, padding, mode="symmetric")
    places = range(2 * padding + 1)
    return [padded[row : row + 2, column : column + 2].tolist() for row in places for column in places]


def augment(config: AugmentationConfig, images_NHWC: Tensor, seed: int = 0) -> Tensor:
    return config.apply(images_NHWC, torch.Generator().manual_seed(seed))


def copies(count: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.tensor(IMAGE, dtype=dtype)[None, :, :, None].repeat(count, 1, 1, 1)


@pytest.mark.parametrize(
    ("config", "outcomes"),
    [
        (AugmentationConfig(shift=1), SHIFTED),
        (AugmentationConfig(horizontal_flip=True), FLIPPED),
        (AugmentationConfig(shift=1, padding="mirror"), crops(1)),
    ],
)
def test_each_image_has_one_of_the_possible_outcomes_all_about_equally_often(
    config: AugmentationConfig, outcomes: list[list[list[int]]]
) -> None:
    seen = augment(config, copies(9000))[..., 0].tolist()
    counts = [seen.count(outcome) for outcome in outcomes]
    assert sum(counts) == 9000
    assert counts == pytest.approx([9000 / len(outcomes)] * len(outcomes), rel=0.15)


def test_shift_and_flip_go_together() -> None:
    outcomes = {str(outcome) for outcome in augment(AugmentationConfig(shift=1, horizontal_flip=True), copies(999))}
    mirrored = {str(outcome) for outcome in copies(1).flip(2)}
    assert mirrored < outcomes
    assert len(outcomes) == 18  # the 9 shifts of the image, and of its mirror


def test_a_shift_may_be_larger_than_the_image() -> None:
    shifted = augment(AugmentationConfig(shift=5, padding="mirror"), copies(999))[..., 0].tolist()
    assert all(image in crops(5) for image in shifted)


# Rotation.


def images(*pixels: Any) -> Tensor:
    """Gray images of the pixels given."""
    return torch.tensor(pixels, dtype=torch.float32)[..., None]


SQUARE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("padding", ["black", "mirror"])
def test_quarter_turns_are_exact_and_each_image_has_its_own(padding: Any) -> None:
    turned = rotate(images(SQUARE, SQUARE, SQUARE, SQUARE), torch.tensor([0.0, 90, 180, -90]), padding)
    expected = images(*(np.rot90(SQUARE, turns).tolist() for turns in (0, 1, 2, 3)))
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-4)


def test_an_image_that_is_wider_than_high_turns_without_being_stretched() -> None:
    turned = rotate(images([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]), torch.tensor([90.0]))
    expected = images([[0, 4, 9, 14, 0], [0, 3, 8, 13, 0], [0, 2, 7, 12, 0]])  # 5 and 1 lie beyond above and below
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-4)


def test_half_between_two_pixels_is_their_mean() -> None:
    turned = rotate(images([[0, 0, 0], [0, 0, 8], [0, 0, 0]]), torch.tensor([45.0]))[0, :, :, 0]
    # The corner above right comes from √2 right of the centre: outside by √2 - 1, as much black is mixed in.
    assert turned[0, 2] == pytest.approx(8 * (2 - math.sqrt(2)), abs=1e-4)
    assert turned[1, 1] == 0


@pytest.mark.parametrize(("padding", "corner"), [("black", 0), ("mirror", 9)])
def test_what_a_rotation_brings_into_view(padding: Any, corner: int) -> None:
    turned = rotate(torch.full((1, 9, 9, 1), 9.0), torch.tensor([45.0]), padding)
    assert turned[0, 0, 0, 0] == pytest.approx(corner)
    assert turned[0, 4, 4, 0] == pytest.approx(9)


def test_angles_are_drawn_evenly_up_to_the_one_given() -> None:
    pointer = torch.zeros(2000, 41, 41, 1)
    pointer[:, 20, 36] = 1  # 16 pixels right of the centre
    turned = augment(AugmentationConfig(rotation=30), pointer)[..., 0]
    place = torch.arange(41.0) - 20
    up, right = -(turned.sum(dim=2) @ place), turned.sum(dim=1) @ place
    degrees = torch.rad2deg(torch.atan2(up, right))
    assert degrees.abs().max() < 31
    shares = torch.histc(degrees, bins=6, min=-30, max=30) / 2000
    torch.testing.assert_close(shares, torch.full((6,), 1 / 6), rtol=0, atol=0.03)


@pytest.mark.parametrize("shape", [(9, 12), (31, 4)])
@pytest.mark.parametrize("padding", ["black", "mirror"])
def test_a_rotated_image_is_shifted_and_mirrored_as_a_whole(shape: tuple[int, int], padding: Any) -> None:
    noisy, generator, again = torch.rand(99, *shape, 2), torch.Generator(), torch.Generator()
    both = AugmentationConfig(rotation=180, shift=5, horizontal_flip=True, padding=padding).apply(noisy, generator)
    rotated = AugmentationConfig(rotation=180, padding=padding).apply(noisy, again)
    moved = AugmentationConfig(shift=5, horizontal_flip=True, padding=padding).apply(rotated, again)
    torch.testing.assert_close(both, moved)


# Erasing.


def test_an_erased_part_is_a_black_rectangle_of_a_share_and_proportion_within_bounds() -> None:
    erased = augment(AugmentationConfig(erasing=1), torch.full((1000, 60, 80, 2), 200, dtype=torch.uint8)) == 0
    rows, columns = erased[..., 0].any(dim=2).sum(dim=1), erased[..., 0].any(dim=1).sum(dim=1)
    assert torch.equal(erased[..., 0].sum(dim=(1, 2)), rows * columns)
    assert torch.equal(erased[..., 0], erased[..., 1])
    high, wide = rows / 60, columns / 80
    rounding = 0.5 / 60
    assert ((high + rounding) * (wide + rounding) >= 0.02).all()
    assert ((high - rounding) * (wide - rounding) <= 0.33).all()
    assert ((high - rounding) / (wide + rounding) <= 3.3).all()
    assert ((wide - rounding) / (high + rounding) <= 3.3).all()
    assert (high * wide).mean() == pytest.approx((0.02 + 0.33) / 2, abs=0.01)
    assert erased.any(dim=3).any(dim=2).any(dim=0).all()  # up to the borders
    assert erased.any(dim=3).any(dim=1).any(dim=0).all()


@pytest.mark.parametrize("chance", [0.25, 1])
def test_so_many_images_are_erased_in_part_as_the_probability_says(chance: float) -> None:
    white = torch.full((4000, 8, 8, 1), 255, dtype=torch.uint8)
    erased = augment(AugmentationConfig(erasing=chance), white)
    touched = (erased != white).any(dim=(1, 2, 3))
    assert touched.double().mean() == pytest.approx(chance, abs=0.02)
    assert erased.unique().tolist() == [0, 255]


# Noise.


def test_noise_has_mean_0_and_the_deviation_given_and_is_not_clipped() -> None:
    gray = torch.full((400, 10, 10, 2), 250, dtype=torch.uint8)
    noise = augment(AugmentationConfig(noise=20), gray).double() - 250
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert noise.std() == pytest.approx(20, rel=0.01)
    assert (noise.abs() < 20).double().mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    assert abs(np.corrcoef(noise[..., 0].flatten(), noise[..., 1].flatten())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.3


# All of it.


def test_the_channels_of_an_image_move_as_one() -> None:
    gray = copies(50)
    config = AugmentationConfig(shift=1, horizontal_flip=True, rotation=30, erasing=0.5)
    moved = augment(config, torch.cat([gray, gray * 10], dim=3))
    torch.testing.assert_close(moved[..., 1], moved[..., 0] * 10)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_dtype_and_shape_stay_but_for_what_needs_floats(dtype: torch.dtype) -> None:
    moved = augment(AugmentationConfig(shift=2, horizontal_flip=True, erasing=0.5), copies(5, dtype))
    assert (moved.dtype, moved.shape) == (dtype, (5, 2, 2, 1))
    moved = augment(EVERY, copies(5, dtype))
    assert (moved.dtype, moved.shape) == (torch.float32, (5, 2, 2, 1))


def test_the_given_images_stay_as_they_are() -> None:
    images = copies(50)
    augment(EVERY, images)
    assert torch.equal(images, copies(50))


def test_without_any_nothing_happens_and_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(AugmentationConfig().apply(copies(5), generator), copies(5))
    assert torch.equal(generator.get_state(), before)
    assert not AugmentationConfig()
    assert not AugmentationConfig(padding="mirror")


def test_the_generator_alone_decides_with_any_number_of_threads() -> None:
    noisy = torch.rand(64, 28, 28, 1)
    first = augment(EVERY, noisy, seed=3)
    torch.rand(3)
    torch.set_num_threads(2)
    assert torch.equal(augment(EVERY, noisy, seed=3), first)
    assert not torch.equal(augment(EVERY, noisy, seed=4), first)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shift", -1),
        ("rotation", -1),
        ("rotation", 181),
        ("rotation", math.nan),
        ("padding", "white"),
        ("erasing", -0.1),
        ("erasing", 1.1),
        ("noise", -1),
        ("noise", math.inf),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^data\.augmentation\.{field}: "):
        AugmentationConfig(**{field: value})
