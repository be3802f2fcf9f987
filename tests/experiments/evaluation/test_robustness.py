"""Corruption errors and the agreement of seeds, against values worked out by hand."""

import numpy as np
import pytest

from experiments.evaluation.accuracy import accuracy
from experiments.evaluation.agreement import agreement
from experiments.evaluation.robustness import CONDITIONS, corruption_error, rows

NOISE = [index for index, (name, _) in enumerate(CONDITIONS) if name == "noise"]


def right(seeds: int = 1, images: int = 4) -> np.ndarray:
    """All images are labelled rightly under all conditions."""
    return np.ones((seeds, len(CONDITIONS), images), np.bool_)


def test_the_mean_corruption_error() -> None:
    """Under noise, half of the images at every strength: 0.5 / 7 corruptions."""
    own = right()
    own[:, NOISE, :2] = False
    found = corruption_error(own)
    assert found["mean"] == pytest.approx(0.5 / 7)
    assert found["by_corruption"]["noise"] == 0.5
    assert sum(found["by_corruption"].values()) == 0.5
    assert found["relative"] is None


def test_the_mean_corruption_error_relative_to_another_model() -> None:
    """The other is wrong on a quarter of the images throughout: 0.5 / 0.25 under noise, 0 elsewhere."""
    own, other = right(), right()
    own[:, NOISE, :2] = False
    other[:, 1:, 0] = False
    found = corruption_error(own, other)
    assert found["relative_by_corruption"]["noise"] == 2
    assert found["relative"] == pytest.approx(2 / 7)
    assert corruption_error(other, other)["relative"] == 1
    assert corruption_error(own, right())["relative"] is None  # the other makes no error


def test_a_relative_error_has_an_interval_over_images() -> None:
    draw = np.random.default_rng(0)
    own, other = right(images=2000), right(images=2000)
    own[:, 1:] = draw.random((1, 35, 2000)) < 0.8
    other[:, 1:] = draw.random((1, 35, 2000)) < 0.75
    low, high = corruption_error(own, other)["relative_ci95"]
    assert 0.75 < low < 0.8 < high < 0.85


def test_rows_have_an_interval_over_images_or_over_seeds() -> None:
    two = right(seeds=2)
    two[0, NOISE[0], 0] = False
    found = {(row["name"], row["strength"]): row for row in rows(two)}
    assert len(found) == 35
    assert found["noise", 1]["accuracy"] == 0.875
    assert found["noise", 1]["ci95"][1] == 1  # no more than is possible
    assert found["noise", 2]["ci95"] is None  # both seeds are equal
    assert rows(two[:1])[0]["ci95"][1] == pytest.approx(1)
    assert accuracy(two[:1, NOISE[0]])[0] == 0.75


def test_agreement_of_three_seeds() -> None:
    """Labels of four images: 0 0 0, 1 1 1, 0 0 1, 1 0 1, of targets 0, 0, 0, 0."""
    sure_of = {0: [0.9, 0.1], 1: [0.2, 0.8]}
    labels = [[0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 1, 1]]
    probabilities = np.array([[sure_of[label] for label in of_seed] for of_seed in labels])
    found = agreement(probabilities, np.zeros(4, np.int64))
    assert found["all"] == 0.5
    assert found["pairs"] == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert (found["accuracy"], found["accuracy_otherwise"]) == (0.5, 0.5)
    assert found["images"] == 2
    by_index = {each["index"]: each for each in found["disagreements"]}
    assert by_index[2] == {"index": 2, "target": 0, "labels": [0, 0, 1], "probabilities": [0.9, 0.9, 0.8]}
    # Image 3 comes first: the mean probabilities are nearer to each other, 0.433 and 0.567 against 0.667 and 0.333.
    assert [each["index"] for each in found["disagreements"]] == [3, 2]


def test_seeds_that_always_agree() -> None:
    found = agreement(np.array([[[0.9, 0.1]], [[0.8, 0.2]]]), np.array([1]))
    assert (found["all"], found["accuracy"], found["accuracy_otherwise"], found["disagreements"]) == (1, 0, None, [])
