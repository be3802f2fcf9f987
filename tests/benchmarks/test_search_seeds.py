import numpy as np
import pytest

from benchmarks.search.seeds import noise_ratio


def test_settings_that_rise_and_fall_together_have_a_difference_without_noise() -> None:
    luck_S = np.array([0.01, -0.02, 0.015, -0.005, 0.03])
    found = noise_ratio(np.stack([0.9 + luck_S, 0.8 + luck_S, 0.7 + luck_S]))
    assert found.ratio == pytest.approx(0, abs=1e-9)
    assert found.deviation == pytest.approx(np.sqrt(2 * np.var(luck_S, ddof=1)))


def test_the_ratio_is_one_minus_the_correlation() -> None:
    """Of two settings with equal variances."""
    random = np.random.default_rng(0)
    common, own = random.standard_normal(4000), random.standard_normal((2, 4000))
    found = noise_ratio(np.sqrt(0.25) * common + np.sqrt(0.75) * own)
    assert found.ratio == pytest.approx(0.75, abs=0.04)
    assert found.low < 0.75 < found.high
