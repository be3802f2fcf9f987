"""Pairs of arms, by hand and by simulation with a known truth."""

import math

import numpy as np
import pytest

from experiments.estimates.pairs import all_pairs

SEEDS = 5


def test_the_interval_of_a_pair_is_students() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1 / √3; of two degrees of freedom 4.302653 of these."""
    (pair,) = all_pairs([[11.0, 22.0, 33.0], [10.0, 20.0, 30.0]])
    margin = 4.302653 / math.sqrt(3)
    assert pair.differences == [1, 2, 3]
    assert pair.found.difference == 2
    assert pair.found.ci95 == pytest.approx((2 - margin, 2 + margin), abs=1e-6)
    t = 2 * math.sqrt(3)
    assert pair.p_value == pytest.approx(1 - t / math.sqrt(t * t + 2))  # of two degrees of freedom, by hand
    assert not pair.distinguishable
    assert pair.spread == 1
    assert pair.confidence == 0.95


def test_intervals_have_the_confidence_of_holms_steps() -> None:
    """The first and the second pair are told apart, the third is not: 5 % / 3, 5 % / 2, and 5 %."""
    noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0])
    arms = [[10.0] * 5, (5 + noise).tolist(), (5.01 + noise[::-1]).tolist()]
    pairs = all_pairs(arms)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [pair.distinguishable for pair in pairs] == [True, True, False]
    assert sorted(pair.confidence for pair in pairs) == pytest.approx([0.95, 0.975, 1 - 0.05 / 3])
    assert pairs[2].confidence == pytest.approx(0.95)


def test_claims_and_intervals_agree_whatever_the_scores() -> None:
    draw = np.random.default_rng(0)
    claims = 0
    for _ in range(50):
        arms = draw.normal(draw.uniform(0, 8, size=(4, 1)), 1, size=(4, SEEDS)).tolist()
        for pair in all_pairs(arms):
            low, high = pair.found.ci95
            assert pair.distinguishable == (pair.p_value < 0.05) == (not low <= 0 <= high)
            claims += pair.distinguishable
    assert 50 < claims < 250


@pytest.mark.parametrize("values", [[[0.9], [0.8]], [[0.9, 0.8], [0.9, 0.8]], [[0.9, 0.8], [0.8, 0.7]]])
def test_one_seed_or_equal_differences_tell_nothing(values: list[list[float]]) -> None:
    (pair,) = all_pairs(values)
    assert (pair.has_interval, pair.distinguishable, pair.p_value) == (False, False, 1)


def test_fewer_than_two_arms_have_no_pair() -> None:
    assert all_pairs([]) == all_pairs([[0.9, 0.8]]) == []


@pytest.mark.parametrize("difference", [0.0, 0.5, 1.0])
def test_of_two_arms_claims_are_rarely_false_and_intervals_cover_95_of_100(difference: float) -> None:
    """5,000 questions over five seeds. What a seed does to both arms alike has twice the spread of the rest.

    The difference is in standard deviations of an arm's own part. A claim is false if it has the wrong direction, or if
    there is no difference.
    """
    draw = np.random.default_rng(1)
    shared = 2 * draw.standard_normal((5000, 1, SEEDS))
    arms = shared + draw.standard_normal((5000, 2, SEEDS)) + [[difference], [0.0]]
    pairs = [all_pairs(each.tolist())[0] for each in arms]
    covered = np.mean([pair.found.ci95[0] <= difference <= pair.found.ci95[1] for pair in pairs])
    assert covered == pytest.approx(0.95, abs=0.01)
    claims = [pair for pair in pairs if pair.distinguishable]
    false = [pair for pair in claims if difference == 0 or pair.found.difference < 0]
    assert len(false) / 5000 <= 0.055
    assert len(claims) / 5000 >= {0.0: 0.0, 0.5: 0.07, 1.0: 0.2}[difference]


@pytest.mark.parametrize("means", [(0.0, 0.0, 0.0), (0.0, 0.0, 4.0)])
def test_of_three_arms_false_claims_are_rare_for_all_pairs_together(means: tuple[float, ...]) -> None:
    """1,000 questions over five seeds: no arm differs, or one differs clearly from two that are equal."""
    draw = np.random.default_rng(2)
    arms = draw.standard_normal((1000, 3, SEEDS)) + np.array(means)[:, None]
    false, missed, pairs = 0, 0, 0
    for each in arms:
        found = all_pairs(each.tolist())
        truth = [means[pair.first] - means[pair.second] for pair in found]
        rows = list(zip(found, truth, strict=True))
        false += any(pair.distinguishable and pair.found.difference * true <= 0 for pair, true in rows)
        missed += sum(not pair.found.ci95[0] <= true <= pair.found.ci95[1] for pair, true in rows)
        pairs += len(found)
    assert false / 1000 <= 0.055
    assert missed / pairs <= 0.05  # of single intervals: they are at least as wide as ordinary ones
