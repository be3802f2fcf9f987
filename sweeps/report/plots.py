"""Draws a sweep's plots as PNG files: Optuna's plots, learning curves and finalists."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from lightning_modules.showable import in_picture
from sweeps.strategy.space import describe

_DPI = 100
_LABEL = 120  # characters of a finalist's parameters
_ENOUGH_FOR_A_FOREST = 4  # trials: with fewer, a tree of the random forest may contain no variance


def draw(study: optuna.Study, document: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Writes the plots that these trials allow to `folder`; returns the file of each title. `document`: the result."""
    folder.mkdir(exist_ok=True)
    metric = document["metric"]
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = _varied(complete)
    drawn: dict[str, Path] = {}

    def save(title: str, draw_figure: Callable[[], Figure]) -> None:
        drawn[title] = folder / f"{title.lower().replace(' ', '_')}.png"
        draw_figure().savefig(drawn[title], dpi=_DPI, bbox_inches="tight")

    with _optunas_style():
        if varied and len({trial.value for trial in complete}) > 1:
            save("History", lambda: _history(study, metric))
            if len(complete) >= _ENOUGH_FOR_A_FOREST:
                save("Parameter importance", lambda: _importance(study, metric, varied))
            save("Parallel coordinates", lambda: _parallel_coordinates(study, metric, varied))
            save("Slices", lambda: _slices(study, metric))
    if any(trial.intermediate_values for trial in trials):
        save("Learning curves", lambda: _learning_curves(trials, metric))
    if document["finalists"]:
        save("Finalists", lambda: _finalists(document))
    return drawn


def _varied(trials: list[FrozenTrial]) -> list[str]:
    """Returns the parameters that every trial has and that take more than one value."""
    common = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    return sorted(name for name in common if len({trial.params[name] for trial in trials}) > 1)


@contextmanager
def _optunas_style() -> Iterator[None]:
    """Restores pyplot's global state after the block: Optuna draws with pyplot, changes its style and opens figures.

    In the block, a choice such as `$x$` is no formula.
    """
    import matplotlib.pyplot as plt  # imported here because it is slow

    others = plt.get_fignums()
    with plt.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "Attempting to set identical low and high xlims")  # if all values are equal
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - set(others):
                plt.close(number)


def _figure_of(axes: Any) -> Figure:
    figure: Figure = (axes.ravel()[0] if hasattr(axes, "ravel") else axes).figure
    return figure


def _history(study: optuna.Study, metric: str) -> Figure:
    axes = optuna.visualization.matplotlib.plot_optimization_history(study, target_name=metric)
    return _figure_of(axes)


def _importance(study: optuna.Study, metric: str, params: list[str]) -> Figure:
    """Draws the importance of `params` by fANOVA (Hutter, Hoos, Leyton-Brown 2014)."""
    evaluator = FanovaImportanceEvaluator(seed=0)
    draw_bars = optuna.visualization.matplotlib.plot_param_importances
    axes = draw_bars(study, evaluator=evaluator, params=params, target_name=metric)
    return _figure_of(axes)


def _parallel_coordinates(study: optuna.Study, metric: str, params: list[str]) -> Figure:
    axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, params=params, target_name=metric)
    figure = _figure_of(axes)
    figure.set_size_inches(2.5 + 2 * len(params), 5)
    return figure


def _slices(study: optuna.Study, metric: str) -> Figure:
    axes = optuna.visualization.matplotlib.plot_slice(study, target_name=metric)
    figure = _figure_of(axes)
    figure.set_size_inches(2 + 3 * len(figure.axes[:-1]), 4)  # the last is the colour bar
    return figure


def _learning_curves(trials: list[FrozenTrial], metric: str) -> Figure:
    """Draws the objective per epoch for every trial; a cross marks where a trial was pruned."""
    figure = Figure(figsize=(9, 5), layout="tight")
    axes = figure.subplots()
    for trial in trials:
        if not trial.intermediate_values:
            continue
        epochs, scores = zip(*sorted(trial.intermediate_values.items()), strict=True)
        is_pruned = trial.state == TrialState.PRUNED
        (line,) = axes.plot(
            epochs, scores, linewidth=0.8, alpha=0.4 if is_pruned else 0.8, marker="." if len(epochs) == 1 else ""
        )
        if is_pruned:
            axes.plot(epochs[-1], scores[-1], marker="x", color=line.get_color())
    axes.plot([], [], marker="x", linestyle="", color="gray", label="pruned")
    axes.set(xlabel="epoch", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _finalists(document: dict[str, Any]) -> Figure:
    """Draws every seed's score and the mean with its 95 % interval, if any; the recipe's own settings come last."""
    rows = [(f"trial {each['number']}: {describe(each['params'])}", each) for each in document["finalists"]]
    if document["baseline"]:
        rows.append(("the recipe's own settings", document["baseline"]))
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(rows)), layout="tight")
    axes = figure.subplots()
    for place, (_, row) in enumerate(rows):
        values = [value for value in row["values"] if value is not None]
        axes.plot(values, [place] * len(values), ".", color="gray", alpha=0.6)
        if row["mean"] is not None:
            margin = row["ci95"][1] - row["mean"] if row["ci95"] else None
            axes.errorbar(row["mean"], place, xerr=margin, fmt="o", capsize=4, color="C0")
    axes.set_yticks(range(len(rows)), [in_picture(name, _LABEL) for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlabel=f"{document['metric']}: each seed, mean, 95 % interval")
    axes.grid(alpha=0.3, axis="x")
    return figure
