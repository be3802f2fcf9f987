"""Calibration: whether a model's confidence is the share of images that it labels rightly.

Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, ICML. Shapes: N images, K classes.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from experiments.comparison.statistics import wilson_interval
from lightning_modules.metrics import BINS, METRICS, Answers, confidence

_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures that are tried
_LEAST = float(np.finfo(np.float32).tiny)  # stands for a probability of 0, whose logarithm is not finite

Array = NDArray[Any]


def calibration_error(probabilities_NK: Array, targets_N: Array) -> float:
    """Returns the expected calibration error over 15 bins of equal width: the metric `calibration_error`."""
    return float(METRICS["calibration_error"].compute(_answers(probabilities_NK, targets_N)))


def reliability(probabilities_NK: Array, targets_N: Array, *, are_independent: bool = True) -> list[dict[str, Any]]:
    """Returns a row for each of the bins that has images.

    `low` and `high`: its ends, the upper one included; `images`; `confidence`: their mean; `accuracy`, with `ci95`,
    which is null unless the answers are independent, as those of several seeds for the same images are not.
    """
    bin_tensor, gap_tensor = confidence(_answers(probabilities_NK, targets_N))
    bin_N, gap_N = bin_tensor.numpy(), gap_tensor.numpy()
    is_right_N = probabilities_NK.argmax(axis=1) == targets_N
    rows = []
    for number in np.unique(bin_N).tolist():
        inside_N = bin_N == number
        hits, images = int(np.count_nonzero(is_right_N[inside_N])), int(np.count_nonzero(inside_N))
        rows.append(
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "images": images,
                "confidence": hits / images - float(gap_N[inside_N].mean()),
                "accuracy": hits / images,
                "ci95": list(wilson_interval(hits, images)) if are_independent else None,
            }
        )
    return rows


def fit_temperature(probabilities_NK: Array, targets_N: Array) -> float:
    """Returns the temperature, from 0.05 to 20, with the lowest cross-entropy on these images.

    Above 1 the model was too sure, below 1 not sure enough. Fit it on val and use it on test.
    """
    logs_NK, everyone = _logs(probabilities_NK), np.arange(len(targets_N))

    def cross_entropy(log_temperature: float) -> float:
        scaled_NK = logs_NK / np.exp(log_temperature)
        scaled_NK -= np.log(np.exp(scaled_NK).sum(axis=1, keepdims=True))
        return -float(scaled_NK[everyone, targets_N].mean())

    found = minimize_scalar(cross_entropy, bounds=np.log([_LOWEST, _HIGHEST]), method="bounded")
    return float(np.exp(found.x))


def at_temperature(probabilities_NK: Array, temperature: float) -> Array:
    """Returns the probabilities with logits divided by `temperature`; labels stay the same."""
    scaled_NK = np.exp(_logs(probabilities_NK) / temperature)
    return np.asarray(scaled_NK / scaled_NK.sum(axis=1, keepdims=True))


def _logs(probabilities_NK: Array) -> Array:
    """Returns logarithms, which are logits up to one number for each image; the largest of each image is 0."""
    logs_NK = np.log(np.maximum(probabilities_NK.astype(np.float64), _LEAST))
    return np.asarray(logs_NK - logs_NK.max(axis=1, keepdims=True))


def _answers(probabilities_NK: Array, targets_N: Array) -> Answers:
    logs_NK = np.log(np.maximum(probabilities_NK.astype(np.float64), _LEAST))
    return Answers(torch.from_numpy(logs_NK), torch.from_numpy(targets_N))
