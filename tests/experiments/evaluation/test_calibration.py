"""Calibration against values worked out by hand, and a temperature that is known."""

import numpy as np
import pytest

from experiments.comparison.statistics import wilson_interval
from experiments.evaluation.calibration import at_temperature, calibration_error, fit_temperature, reliability

# Two images at confidence 0.9, one of which is labelled rightly, and two at 0.6 that both are.
PROBABILITIES = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]], np.float32)
TARGETS = np.array([0, 0, 0, 1])


def test_bins_and_their_error() -> None:
    """|0.5 - 0.9|·2/4 + |1 - 0.6|·2/4 = 0.4. 0.9 is in the 14th of 15 bins, from 13/15 to 14/15."""
    assert calibration_error(PROBABILITIES, TARGETS) == pytest.approx(0.4, abs=1e-6)
    rows = reliability(PROBABILITIES, TARGETS)
    assert [row["images"] for row in rows] == [2, 2]
    assert (rows[1]["low"], rows[1]["high"]) == (pytest.approx(13 / 15), pytest.approx(14 / 15))
    assert [row["confidence"] for row in rows] == pytest.approx([0.6, 0.9], abs=1e-6)
    assert [row["accuracy"] for row in rows] == [1.0, 0.5]
    assert rows[1]["ci95"] == list(wilson_interval(1, 2))


def test_answers_of_several_seeds_have_no_interval() -> None:
    assert [row["ci95"] for row in reliability(PROBABILITIES, TARGETS, are_independent=False)] == [None, None]


def test_the_temperature_of_a_model_that_is_twice_too_sure() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (20_000, 5))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (honest.cumsum(axis=1) > draw.random((len(honest), 1))).argmax(axis=1)
    sure = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    temperature = fit_temperature(sure, targets)
    assert temperature == pytest.approx(2, rel=0.05)
    cooled = at_temperature(sure, 2)
    assert cooled == pytest.approx(honest)
    assert calibration_error(cooled, targets) < 0.02 < 0.1 < calibration_error(sure, targets)


def test_a_probability_of_zero_is_no_obstacle() -> None:
    certain = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert fit_temperature(certain, np.array([0, 1, 1])) == pytest.approx(20, rel=0.01)  # the highest that is tried
    assert np.isfinite(at_temperature(certain, 20)).all()


def test_wilsons_interval_of_a_published_example() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, and 0 of 20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
