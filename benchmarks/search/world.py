"""What a table says of any point of its space: learning curves as trials there would have, and the expected score.

As surrogate benchmarks do (HPOBench, arXiv 2109.06716; YAHPO Gym, arXiv 2109.03670; JAHS-Bench-201, NeurIPS 2022), a
regression over the table gives the expected score after each epoch: a Gaussian process, of the logarithm of the share
of wrong answers, in which a difference between good points is as large as one between bad points.
A trial's curve adds to that the deviations of one of the recorded trials nearest to its point, all epochs of the same
one: so the noise has its real size, its correlation between epochs, and its size at that place of the space.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import GroupKFold

from benchmarks.search.table import LAST, Row
from sweeps.strategy.space import Parameter, SearchSpace

# Shapes: N rows, D features or coordinates, E epochs, P points, B points that are kept.
_NEAREST = 5  # recorded trials of which one lends its deviations
_FITTED = 400  # rows on which the kernel's lengths are fitted: more would only take longer
_TRIED, _KEPT, _ROUNDS = 2048, 32, 6  # points of a round in the search for the best, those kept, and rounds
# Times the median share of wrong answers; what is worse counts as this bad. Beside a cliff, where training diverges, a
# regression would swing too high.
_TOO_BAD = 2.0
_CHANCE = 0.1  # accuracy after the loss was not finite any more


@dataclass(frozen=True)
class Curve:
    """A trial's accuracies after each epoch; shorter if its loss was not finite any more."""

    values: list[float]
    fails: bool


class World:
    """A table's space. `images`: of val; half an image keeps the logarithms finite."""

    def __init__(self, rows: Sequence[Row], space: SearchSpace, images: int) -> None:
        self.space, self.rows, self._least = space, rows, 0.5 / images
        self.epochs = max(len(row.accuracy) for row in rows)
        self._features_ND = np.array([self._features(row.params) for row in rows])
        self._worst_E = _TOO_BAD * np.median([self._wrong(row) for row in rows], axis=0)
        targets_NE = np.array([self._target(row) for row in rows])
        self._mean_E, self._scale = targets_NE.mean(axis=0), targets_NE[:, -1].std()
        scaled_NE = (targets_NE - self._mean_E) / self._scale
        self._kernel, noise = _fitted_kernel(self._features_ND, scaled_NE[:, -1])
        covariance_NN = self._kernel(self._features_ND)
        self._weights_NE = np.linalg.solve(covariance_NN + noise * np.eye(len(rows)), scaled_NE)
        self._deviations_NE = scaled_NE - covariance_NN @ self._weights_NE
        self.best = self._highest()

    def expected(self, params: Mapping[str, Any]) -> float:
        """Returns the accuracy after the last epoch that trials at a point have, seed by seed, in the middle."""
        return float(self._finals([params])[0])

    def curve(self, params: Mapping[str, Any], random: np.random.Generator) -> Curve:
        """Returns the curve of one trial."""
        (near_N,) = self._near([params])
        lender = random.choice(np.argsort(-near_N)[:_NEAREST])
        values_E = self._accuracy(near_N @ self._weights_NE + self._deviations_NE[lender])
        ends = len(self.rows[lender].accuracy)
        return Curve(values_E[:ends].tolist(), fails=ends < self.epochs)

    def quality(self) -> dict[str, float]:
        """Returns how well the regression predicts the final scores of points that it was not fitted on."""
        finals_N = np.array([self._target(row)[-1] for row in self.rows])
        scaled_N = (finals_N - finals_N.mean()) / self._scale
        noise = self._noise()
        predicted_N = np.empty(len(finals_N))
        for fitted, left in GroupKFold(5).split(self._features_ND, groups=[row.point for row in self.rows]):
            covariance = self._kernel(self._features_ND[fitted]) + noise * np.eye(len(fitted))
            weights = np.linalg.solve(covariance, scaled_N[fitted])
            predicted_N[left] = self._kernel(self._features_ND[left], self._features_ND[fitted]) @ weights
        good = finals_N <= np.median(finals_N)
        return {
            "rank_correlation": float(spearmanr(predicted_N, finals_N).statistic),
            "rank_correlation_of_the_better_half": float(spearmanr(predicted_N[good], finals_N[good]).statistic),
            "explained": float(1 - np.var(predicted_N - scaled_N) / np.var(scaled_N)),
        }

    def _highest(self) -> float:
        """Returns the highest expected score of the space: of random points, then of points ever nearer to the best."""
        random, scale = np.random.default_rng(0), 0.1
        places_PD = random.random((_TRIED, len(self.space.parameters)))
        for _ in range(_ROUNDS):
            finals_P = self._finals([self.space.at(place) for place in places_PD.tolist()])
            best_BD = places_PD[np.argsort(-finals_P)[:_KEPT]]
            moved_PD = np.repeat(best_BD, _TRIED // _KEPT, axis=0)
            moved_PD = np.clip(moved_PD + scale * random.standard_normal(moved_PD.shape), 0.0, LAST)
            places_PD, scale = np.concatenate([best_BD, moved_PD]), scale / 2
        return float(max(finals_P.max(), self._finals([row.params for row in self.rows]).max()))

    def _finals(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Returns the expected accuracy of each point after the last epoch (P,)."""
        return self._accuracy(self._near(points) @ self._weights_NE)[:, -1]

    def _noise(self) -> float:
        return float(np.var(self._deviations_NE[:, -1]))

    def _near(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Returns the kernel between each point and each row (P, N)."""
        features_PD = np.array([self._features(params) for params in points])
        near_PN: NDArray[np.float64] = self._kernel(features_PD, self._features_ND)
        return near_PN

    def _features(self, params: Mapping[str, Any]) -> list[float]:
        return [feature for parameter in self.space.parameters for feature in _of_parameter(parameter, params)]

    def _target(self, row: Row) -> NDArray[np.float64]:
        """Returns the logarithm of the share of wrong answers after each epoch (E,)."""
        targets_E: NDArray[np.float64] = np.log(np.minimum(self._wrong(row), self._worst_E) + self._least)
        return targets_E

    def _wrong(self, row: Row) -> NDArray[np.float64]:
        """Returns the share of wrong answers after each epoch (E,)."""
        return 1 - np.array([*row.accuracy, *[_CHANCE] * (self.epochs - len(row.accuracy))])

    def _accuracy(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        accuracy: NDArray[np.float64] = 1 + self._least - np.exp(scaled * self._scale + self._mean_E)
        return accuracy


def _of_parameter(parameter: Parameter, params: Mapping[str, Any]) -> list[float]:
    """Returns a parameter as coordinates: numbers from 0 to 1; other choices in one dimension each."""
    value = params.get(parameter.path)
    if parameter.choices and not parameter.is_number:
        return [float(value == choice) for choice in parameter.choices]
    if value is None:
        return [0.5]  # the condition does not hold: the same for all these points
    if parameter.choices:
        return [parameter.choices.index(value) / max(1, len(parameter.choices) - 1)]
    low, high = np.log([parameter.low, parameter.high]) if parameter.log else (parameter.low, parameter.high)
    return [float(((np.log(value) if parameter.log else value) - low) / (high - low))]


def _fitted_kernel(features_ND: NDArray[np.float64], targets_N: NDArray[np.float64]) -> tuple[Any, float]:
    """Returns the kernel with the lengths of highest likelihood, and the variance of the noise."""
    dimensions = features_ND.shape[1]
    smooth = ConstantKernel(1.0) * Matern(np.full(dimensions, 0.5), length_scale_bounds=(0.05, 20), nu=2.5)
    chosen = np.random.default_rng(0).permutation(len(targets_N))[:_FITTED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor = GaussianProcessRegressor(smooth + WhiteKernel(0.1, (1e-4, 1)), n_restarts_optimizer=0)
        regressor.fit(features_ND[chosen], targets_N[chosen])
    return regressor.kernel_.k1, float(regressor.kernel_.k2.noise_level)
