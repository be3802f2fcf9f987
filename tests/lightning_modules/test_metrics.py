"""Every metric on answers whose value is worked out by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from lightning_modules.metrics import METRICS, Answers, find_metric, monitors, sign_of


def answers(probabilities: list[list[float]], labels: list[int]) -> Answers:
    return Answers(torch.tensor(probabilities).log(), torch.tensor(labels))


def value(name: str, given: Answers) -> float:
    return float(METRICS[name].compute(given))


def test_macro_f1_is_scikit_learn_s() -> None:
    draws = np.random.default_rng(0)
    for classes, size in ((2, 5), (7, 4), (7, 300), (12, 1000)):
        labels, said = draws.integers(0, classes, (2, size))
        given = Answers(torch.eye(classes + 3)[said], torch.from_numpy(labels))
        assert value("macro_f1", given) == pytest.approx(f1_score(labels, said, average="macro"), rel=1e-12)


def test_an_image_counts_for_top3_where_its_class_is_among_the_three_likeliest() -> None:
    ranked = [[0.4, 0.3, 0.2, 0.1]] * 4
    assert value("top3_accuracy", answers(ranked, [0, 1, 2, 3])) == 3 / 4
    assert value("accuracy", answers(ranked, [0, 1, 2, 3])) == 1 / 4


def test_top3_of_two_classes_is_always_right() -> None:
    assert value("top3_accuracy", answers([[0.9, 0.1]], [1])) == 1.0


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_images() -> None:
    # Confidence 0.9 four times, right three times: a gap of 0.15. Confidence 0.6 once, and wrong: a gap of 0.6.
    given = answers([[0.9, 0.1]] * 4 + [[0.4, 0.6]], [0, 0, 0, 1, 0])
    assert value("calibration_error", given) == pytest.approx((4 * 0.15 + 1 * 0.6) / 5)


def test_gaps_of_one_bin_cancel_each_other_and_those_of_two_bins_do_not() -> None:
    # Bin 12 of 15 ends at 0.8. In one bin: 0.75 right and 0.75 wrong, of mean confidence 0.75 and accuracy 0.5.
    assert value("calibration_error", answers([[0.75, 0.25]] * 2, [0, 1])) == pytest.approx(0.25)
    apart = answers([[0.75, 0.25], [0.85, 0.15]], [0, 1])
    assert value("calibration_error", apart) == pytest.approx((0.25 + 0.85) / 2)


def test_a_certain_and_right_network_is_calibrated() -> None:
    assert value("calibration_error", Answers(torch.eye(3) * 1000, torch.arange(3))) == 0.0


def test_loss_is_the_mean_cross_entropy() -> None:
    given = answers([[0.25, 0.75], [0.25, 0.75]], [1, 0])
    assert value("loss", given) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_every_metric_has_a_direction() -> None:
    signs = {name: sign_of(f"val/{name}") for name in METRICS}
    assert signs == {"accuracy": 1, "macro_f1": 1, "top3_accuracy": 1, "calibration_error": -1, "loss": -1}


@pytest.mark.parametrize("name", ["value", "throughput/images_per_second", "system/loss", "loss", "val/", "val/lossy"])
def test_other_names_are_no_metric(name: str) -> None:
    assert find_metric(name) is None
    assert sign_of(name) == 0


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_follows_from_the_means_of_its_terms(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    given = Answers(torch.randn(300, 7, generator=draws), torch.randint(0, 5, (300,), generator=draws))
    metric = METRICS[name]
    assert metric.terms is not None
    terms_ND = metric.terms(given)
    assert len(terms_ND) == 300
    assert float(metric.of_means(terms_ND.mean(dim=0))) == pytest.approx(value(name, given), rel=1e-12)


def test_a_run_may_be_judged_by_any_metric_on_val() -> None:
    assert monitors() == [f"val/{name}" for name in METRICS]
