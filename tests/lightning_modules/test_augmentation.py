"""Random shifts and flips, checked against every outcome there can be."""

import pytest
import torch
from torch import Tensor

from lightning_modules import AugmentationConfig, InputError

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


def augment(config: AugmentationConfig, images_NHWC: Tensor, seed: int = 0) -> Tensor:
    return config.apply(images_NHWC, torch.Generator().manual_seed(seed))


def copies(count: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.tensor(IMAGE, dtype=dtype)[None, :, :, None].repeat(count, 1, 1, 1)


@pytest.mark.parametrize(
    ("config", "outcomes"),
    [(AugmentationConfig(shift=1), SHIFTED), (AugmentationConfig(horizontal_flip=True), FLIPPED)],
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


def test_the_channels_of_an_image_move_as_one() -> None:
    gray = copies(50)
    moved = augment(AugmentationConfig(shift=1, horizontal_flip=True), torch.cat([gray, gray * 10], dim=3))
    assert torch.equal(moved[..., 1], moved[..., 0] * 10)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_dtype_and_shape_stay(dtype: torch.dtype) -> None:
    moved = augment(AugmentationConfig(shift=2, horizontal_flip=True), copies(5, dtype))
    assert (moved.dtype, moved.shape) == (dtype, (5, 2, 2, 1))


def test_the_given_images_stay_as_they_are() -> None:
    images = copies(50)
    augment(AugmentationConfig(shift=1, horizontal_flip=True), images)
    assert torch.equal(images, copies(50))


def test_the_generator_alone_decides() -> None:
    config = AugmentationConfig(shift=1, horizontal_flip=True)
    assert torch.equal(augment(config, copies(50), seed=3), augment(config, copies(50), seed=3))
    assert not torch.equal(augment(config, copies(50), seed=3), augment(config, copies(50), seed=4))


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(InputError, match=r"^data\.augmentation\.shift: must be 0 or more"):
        AugmentationConfig(shift=-1)
