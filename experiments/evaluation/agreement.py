"""Whether several seeds of one configuration give the same labels. Shapes: S seeds, N images, K classes."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.statistics import wilson_interval

MOST_IMAGES = 24


def agreement(probabilities_SNK: NDArray[Any], targets_N: NDArray[np.int64]) -> dict[str, Any]:
    """Compares the labels of two seeds or more.

    `all`: the share of images on which all seeds agree, with `ci95`; `pairs`: the mean share on which two seeds agree;
    `accuracy`: the share of the images on which all agree that they label rightly, null if there are none, and
    `accuracy_otherwise`: the mean over seeds on the others; `images`: on how many they disagree; `disagreements`: the
    first 24 of these, those with the most seeds against the majority first: index, target, and each seed's label and
    its probability.
    """
    labels_SN = probabilities_SNK.argmax(axis=2)
    seeds, images = labels_SN.shape
    is_right_SN = labels_SN == targets_N
    agree_N = (labels_SN == labels_SN[0]).all(axis=0)
    together = int(np.count_nonzero(agree_N))
    pairs = [float((labels_SN[one] == labels_SN[two]).mean()) for one, two in combinations(range(seeds), 2)]
    apart = np.flatnonzero(~agree_N)
    order = np.lexsort((_lead(probabilities_SNK)[apart], _largest_party(labels_SN)[apart]))
    return {
        "seeds": seeds,
        "all": together / images,
        "ci95": list(wilson_interval(together, images)),
        "pairs": float(np.mean(pairs)),
        "accuracy": float(is_right_SN[0, agree_N].mean()) if together else None,
        "accuracy_otherwise": float(is_right_SN[:, apart].mean()) if len(apart) else None,
        "images": len(apart),
        "disagreements": [
            {
                "index": int(index),
                "target": int(targets_N[index]),
                "labels": labels_SN[:, index].tolist(),
                "probabilities": [round(float(p), 4) for p in probabilities_SNK[:, index].max(axis=1)],
            }
            for index in apart[order][:MOST_IMAGES]
        ],
    }


def _largest_party(labels_SN: NDArray[Any]) -> NDArray[np.int64]:
    """Returns how many seeds give an image its most common label, (N,)."""
    same_SSN = labels_SN[:, None] == labels_SN[None]
    most: NDArray[np.int64] = same_SSN.sum(axis=1).max(axis=0)
    return most


def _lead(probabilities_SNK: NDArray[Any]) -> NDArray[Any]:
    """Returns the two highest mean probabilities' difference, (N,): small where the seeds together are undecided."""
    top_N2 = np.sort(probabilities_SNK.mean(axis=0), axis=1)[:, -2:]
    return np.asarray(top_N2[:, -1] - top_N2[:, 0])
