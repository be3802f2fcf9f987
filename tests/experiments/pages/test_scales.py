"""Where values stand on an axis, and its ticks, worked out by hand."""

import math

import pytest

from experiments.pages.scales import Categories, Scale, shade


@pytest.mark.parametrize(
    ("scale", "value", "share"),
    [
        (Scale(0, 10), 2.5, 0.25),
        (Scale(-1, 1), 0, 0.5),
        (Scale(0.01, 100, log=True), 1, 0.5),
        (Scale(0, 10), 11, 1.0),  # beyond the end
        (Scale(0.01, 100, log=True), 0, 0.0),
    ],
)
def test_the_place_of_a_number(scale: Scale, value: float, share: float) -> None:
    assert scale.share(value) == pytest.approx(share)


def test_choices_are_evenly_spaced() -> None:
    scale = Categories(("sgd", "adam", 3, None))
    assert [scale.share(value) for value in scale.values] == [0.125, 0.375, 0.625, 0.875]
    assert [tick.text for tick in scale.ticks] == ["sgd", "adam", "3", "None"]


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Scale(0.971, 0.979), ["0.972", "0.974", "0.976", "0.978"]),
        (Scale(0.8, 4.2, whole=True), ["1", "2", "3", "4"]),
        (Scale(1e-5, 1e-1, log=True), ["1e-5", "0.0001", "0.001", "0.01", "0.1"]),
        (Scale(0.001, 0.1, log=True), ["0.001", "0.003", "0.01", "0.03", "0.1"]),
        (Scale(-0.002, 0.002), ["-0.002", "-0.001", "0.000", "0.001", "0.002"]),
    ],
)
def test_ticks_are_few_and_have_the_digits_that_tell_them_apart(scale: Scale, texts: list[str]) -> None:
    assert [tick.text for tick in scale.ticks] == texts
    assert [tick.share for tick in scale.ticks] == pytest.approx([scale.share(float(text)) for text in texts])


def test_a_scale_holds_its_values_with_room_at_both_ends() -> None:
    scale = Scale.around([2.0, 4.0, math.nan, math.inf])
    assert (scale.low, scale.high) == (pytest.approx(1.92), pytest.approx(4.08))
    assert 0 < Scale.around([3.0, 3.0]).share(3.0) < 1
    assert Scale.fitting([1e-4, 1e-1]).log
    assert not Scale.fitting([0.0, 1e-1]).log


def test_values_far_from_the_others_stand_at_the_edge() -> None:
    scale = Scale.robust([0.9, 0.91, 0.92, 0.93, 0.94, 0.1])
    assert scale.low > 0.8
    assert scale.share(0.1) == 0.0
    assert Scale.robust([0.5, 0.9]).low < 0.5  # with two, neither is far


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.05, 0), (0.5, 5), (0.99, 9), (1.0, 9)])
def test_a_share_has_one_of_ten_shades(share: float, number: int) -> None:
    assert shade(share) == number
