"""Every corruption against values that were worked out by hand on images of 4 × 4 pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt, value_range

COUNT = 64  # copies of an image: among so many, every direction is drawn
BYTES = (0.0, 255.0)
# Row r, column c: 40 r + 10 c. From the centre, (x, y) pixels away, the image is 75 + 10 x + 40 y.
RAMP = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)


def copies(image_HW: NDArray[Any], count: int = COUNT) -> NDArray[Any]:
    return np.repeat(image_HW[None, :, :, None], count, axis=0)


def applied(name: str, image_HW: NDArray[Any], amount: float) -> NDArray[Any]:
    """What the corruption makes of copies of an image, in pixels of its own."""
    draw = np.random.default_rng(0)
    return CORRUPTIONS[name].apply(copies(image_HW.astype(np.float32)), amount, draw)[..., 0]


def test_a_shift_by_one_pixel_goes_in_each_of_four_directions_and_leaves_black() -> None:
    right = [[0, 0, 10, 20], [0, 40, 50, 60], [0, 80, 90, 100], [0, 120, 130, 140]]
    left = [[10, 20, 30, 0], [50, 60, 70, 0], [90, 100, 110, 0], [130, 140, 150, 0]]
    down = [[0, 0, 0, 0], [0, 10, 20, 30], [40, 50, 60, 70], [80, 90, 100, 110]]
    up = [[40, 50, 60, 70], [80, 90, 100, 110], [120, 130, 140, 150], [0, 0, 0, 0]]
    found = {tuple(image.round(3).ravel().tolist()) for image in applied("shift", RAMP, 1)}
    assert found == {tuple(np.ravel(image).astype(float).tolist()) for image in (right, left, down, up)}


def test_a_shift_by_a_part_of_a_pixel_interpolates() -> None:
    """4 pixels of 28 are 4/7 of a pixel here: to the right, 3/7 of the pixel and 4/7 of its left neighbour."""
    shifted = corrupt(copies(RAMP), "shift", 4, seed=0, values=BYTES)[..., 0]
    row = [0, 4, 14, 24]  # 3/7·0, 3/7·10 + 4/7·0 = 4.29, 14.29, 24.29
    assert row in shifted[:, 0].tolist()


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    found = {tuple(image.round(3).ravel().tolist()) for image in applied("rotation", RAMP, 90)}
    turns = (np.rot90(RAMP), np.rot90(RAMP, -1))
    assert found == {tuple(turn.astype(float).ravel().tolist()) for turn in turns}


def test_a_turn_by_30_degrees() -> None:
    """The pixel half a pixel right of and below the centre comes from half as far along (0.366, 1.366), or across.

    0.5·(cos 30° ∓ sin 30°) = 0.183 and 0.683: 75 + 1.83 + 27.32 = 104.15, and 75 + 6.83 + 7.32 = 89.15.
    """
    turned = corrupt(copies(RAMP), "rotation", 5, seed=0, values=BYTES)
    assert set(turned[:, 2, 2, 0].tolist()) == {104, 89}


def test_a_scale_by_a_fifth() -> None:
    """Larger: the same pixel comes from 0.5/1.2 away on both axes, 75 + 50/2.4 = 95.8; smaller: 75 + 50·0.6 = 105."""
    scaled = corrupt(copies(RAMP), "scale", 2, seed=0, values=BYTES)
    assert set(scaled[:, 2, 2, 0].tolist()) == {96, 105}


def test_noise_has_the_standard_deviation_that_it_states() -> None:
    """0.12 of 255 is 30.6; 128 is more than four of these from both ends, so that nothing is cut off."""
    noisy = corrupt(copies(np.full((4, 4), 128, np.uint8), 4000), "noise", 3, seed=0, values=BYTES)
    assert noisy.std() == pytest.approx(30.6, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.5)


def test_blur_spreads_a_pixel_by_gaussian_weights() -> None:
    """Weights exp(-d²/2) over their sum 2.50664, which are cut at d = 4: 0.39894, 0.24197, 0.05399."""
    point = np.zeros((4, 4))
    point[1, 1] = 1
    blurred = applied("blur", point, 1)[0]
    assert blurred[1, 1] == pytest.approx(0.39894**2, abs=1e-5)
    assert blurred[1, 2] == pytest.approx(0.39894 * 0.24197, abs=1e-5)
    assert blurred[3, 3] == pytest.approx(0.05399**2, abs=1e-5)
    assert applied("blur", np.full((4, 4), 0.7), 2) == pytest.approx(0.7)  # its border is not darkened


@pytest.mark.parametrize(("strength", "ends"), [(1, (19, 131)), (3, (45, 105)), (5, (64, 86))])
def test_contrast_moves_values_to_their_mean(strength: int, ends: tuple[int, int]) -> None:
    """The mean is 75: 75 ∓ 75·0.75 = 18.75 and 131.25; 75 ∓ 75·0.4 = 45 and 105; 75 ∓ 75·0.15 = 63.75 and 86.25."""
    changed = corrupt(copies(RAMP), "contrast", strength, seed=0, values=BYTES)
    assert (changed.min(), changed.max()) == ends


@pytest.mark.parametrize(("strength", "side"), [(1, 1), (5, 2)])
def test_occlusion_covers_one_square_somewhere(strength: int, side: int) -> None:
    """4 pixels of 28 are 0.57 of 4, and 12 are 1.71; gray is 127.5."""
    covered = corrupt(copies(RAMP), "occlusion", strength, seed=0, values=BYTES)[..., 0]
    is_gray = covered == 128
    assert (is_gray.sum(axis=(1, 2)) == side**2).all()
    assert (covered[~is_gray] == np.broadcast_to(RAMP, covered.shape)[~is_gray]).all()
    places = {(int(rows.min()), int(columns.min())) for rows, columns in map(np.nonzero, is_gray)}
    assert places == {(row, column) for row in range(5 - side) for column in range(5 - side)}


def test_lengths_are_stated_for_28_pixels_and_grow_with_the_image() -> None:
    point = np.zeros((56, 84), np.uint8)
    point[20, 20] = 255
    shifted = corrupt(copies(point), "shift", 3, seed=0, values=BYTES)[..., 0]
    found = {tuple(np.argwhere(image)[0].tolist()) for image in shifted}
    assert found == {(26, 20), (14, 20), (20, 26), (20, 14)}  # 3 · 56/28


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_floats_of_another_range_are_changed_in_the_same_way(name: str) -> None:
    as_bytes = corrupt(copies(RAMP), name, 3, seed=1, values=BYTES).astype(float)
    floats = copies(RAMP).astype(np.float32) / 51 - 2.5  # from -2.5 to 2.5
    as_floats = corrupt(floats, name, 3, seed=1, values=(-2.5, 2.5))
    assert as_floats.dtype == np.float32
    assert (as_floats + 2.5) * 51 == pytest.approx(as_bytes, abs=0.51)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_makes_the_same_images_of_the_same_shape_and_type(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 6, 3), np.uint8)
    kept = images.copy()
    first, again = (corrupt(images, name, 4, seed=3, values=BYTES) for _ in range(2))
    assert (images == kept).all()
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert (first == again).all()
    assert (first != images).any()


def test_a_direction_is_the_same_at_every_strength() -> None:
    point = np.zeros((28, 28), np.uint8)
    point[14, 14] = 255
    moves = []
    for strength in STRENGTHS:
        shifted = corrupt(copies(point), "shift", strength, seed=0, values=BYTES)[..., 0]
        moves.append([((np.argwhere(image)[0] - 14) / strength).tolist() for image in shifted])
    assert all(each == moves[0] for each in moves)


@pytest.mark.parametrize(
    ("darkest", "brightest", "dtype", "expected"),
    [
        (3, 250, np.uint8, (0, 255)),
        (0, 16, np.uint8, (0, 16)),  # scikit-learn's digits
        (-1.5, 2, np.float32, (-1.5, 2)),
        (7, 7, np.uint8, (7, 8)),
    ],
)
def test_the_range_of_values_is_the_datas_own_unless_they_are_usual_bytes(
    darkest: float, brightest: float, dtype: Any, expected: tuple[float, float]
) -> None:
    assert value_range(darkest, brightest, np.dtype(dtype)) == expected
