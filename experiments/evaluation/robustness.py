"""Robustness: how many images models label rightly under every corruption and strength.

Shapes: S seeds, N images, K classes, R conditions: the images as they are, then each corruption at each strength.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.statistics import bootstrap_interval, estimate
from experiments.evaluation.accuracy import accuracy
from experiments.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt, value_range
from lightning_modules.pipeline.splits import Subset

CONDITIONS = [("clean", 0), *product(CORRUPTIONS, STRENGTHS)]
_AT_ONCE = 1000  # images; a block is also what one seed of the corruptions is for

Answer = Callable[[NDArray[Any]], NDArray[Any]]  # images (n, H, W, C) → probabilities (n, K)


@dataclass(frozen=True)
class Measured:
    """One model's answers: `probabilities` (N, K) for the images as they are; `is_right` (R, N)."""

    probabilities: NDArray[Any]
    is_right: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return labels


def values_of(subset: Subset) -> tuple[float, float]:
    """Returns the darkest and the brightest value that images like these may have."""
    ends = [(float(block.min()), float(block.max())) for block, _ in _blocks(subset)]
    return value_range(min(low for low, _ in ends), max(high for _, high in ends), subset.images.dtype)


def measure(models: Sequence[Answer], subset: Subset, told: Callable[[], object]) -> list[Measured]:
    """Returns what each model answers. All see the same corrupted images. `told` is called after each condition."""
    values, targets_N = values_of(subset), subset.targets
    is_right = np.zeros((len(models), len(CONDITIONS), len(subset)), np.bool_)
    probabilities: list[list[NDArray[Any]]] = [[] for _ in models]
    for number, (block, rows) in enumerate(_blocks(subset)):
        for condition, (name, strength) in enumerate(CONDITIONS):
            shown = block if name == "clean" else corrupt(block, name, strength, seed=number, values=values)
            for model, answer in enumerate(models):
                answers = answer(shown)
                is_right[model, condition, rows] = answers.argmax(axis=1) == targets_N[rows]
                if name == "clean":
                    probabilities[model].append(answers)
            told()
    return [Measured(np.concatenate(said), right) for said, right in zip(probabilities, is_right, strict=True)]


def steps(subset: Subset) -> int:
    """Returns how often `measure` calls `told`."""
    return len(CONDITIONS) * -(-len(subset) // _AT_ONCE)


def examples(subset: Subset, values: tuple[float, float]) -> dict[str, list[NDArray[Any]]]:
    """Returns the first image under each corruption, at each strength."""
    block, _ = next(_blocks(subset))
    return {
        name: [corrupt(block, name, strength, seed=0, values=values)[0] for strength in STRENGTHS]
        for name in CORRUPTIONS
    }


def _blocks(subset: Subset) -> Iterator[tuple[NDArray[Any], slice]]:
    for start in range(0, len(subset), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        yield np.asarray(subset.images[subset.indices[rows]]), rows


def rows(is_right_SRN: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Returns a row for each corruption and strength: name, strength, amount, unit, accuracy, ci95."""
    found = []
    for condition, (name, strength) in enumerate(CONDITIONS):
        if name != "clean":
            corruption, (value, ci95) = CORRUPTIONS[name], accuracy(is_right_SRN[:, condition])
            amount = {"amount": corruption.amounts[strength - 1], "unit": corruption.unit}
            found.append({"name": name, "strength": strength, **amount, "accuracy": value, "ci95": ci95})
    return found


def corruption_error(is_right_SRN: NDArray[np.bool_], against_SRN: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """Returns the mean corruption error, and with `against_SRN` the same relative to these models.

    The error under a corruption is the share of images that are labelled wrongly, a mean over its strengths and over
    seeds. `mean`: its mean over corruptions, with `ci95`; `by_corruption`. `relative`: the mean over corruptions of the
    error divided by that of the other models, as in Hendrycks and Dietterich, with `relative_ci95` over images:
    below 1 is more robust. It is null if the others make no error under some corruption, the interval if very few.
    """
    own_SCN = _errors(is_right_SRN)
    own_C = own_SCN.mean(axis=(0, 2))
    per_unit = own_SCN.mean(axis=(0, 1)) if len(own_SCN) == 1 else own_SCN.mean(axis=(1, 2))
    found = estimate(per_unit.tolist()).within((0, 1))
    document: dict[str, Any] = {
        "mean": float(own_C.mean()),
        "ci95": found.ci95 and list(found.ci95),
        "by_corruption": dict(zip(CORRUPTIONS, own_C.tolist(), strict=True)),
        "relative": None,
        "relative_ci95": None,
        "relative_by_corruption": None,
    }
    if against_SRN is None:
        return document
    other_CN = _errors(against_SRN).mean(axis=0)
    if not other_CN.any(axis=1).all():
        return document
    ratios_C = own_C / other_CN.mean(axis=1)
    both_ND = np.concatenate([own_SCN.mean(axis=0), other_CN]).T
    count = len(ratios_C)
    with np.errstate(divide="ignore", invalid="ignore"):  # few errors: a draw of the images may have none
        interval = bootstrap_interval(both_ND, lambda means_D: float((means_D[:count] / means_D[count:]).mean()))
    return document | {
        "relative": float(ratios_C.mean()),
        "relative_ci95": list(interval) if np.isfinite(interval).all() else None,
        "relative_by_corruption": dict(zip(CORRUPTIONS, ratios_C.tolist(), strict=True)),
    }


def _errors(is_right_SRN: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns 1 for each image that is labelled wrongly, else 0, as a mean over strengths: (S, corruptions, N)."""
    seeds, _, images = is_right_SRN.shape
    by_strength = is_right_SRN[:, 1:].reshape(seeds, len(CORRUPTIONS), len(STRENGTHS), images)
    wrong: NDArray[np.float64] = 1 - by_strength.mean(axis=2)
    return wrong
