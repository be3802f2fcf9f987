"""Records a table: real trials of a sweep's space, trained as the workbench trains them, without tracking."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import qmc
from sklearn.model_selection import train_test_split

from benchmarks.search.table import LAST, Recording, Row
from experiments import Store
from experiments.config import ExperimentConfig
from experiments.errors import NonFiniteLossError
from experiments.process.setup import prepare_process
from experiments.tasks.prepare import prepare
from experiments.training.epochs import Epoch, EpochEnd, check_finite
from experiments.training.trainer import make_trainer
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.base import LabelledImages
from sweeps import load_sweep
from sweeps.config import Sweep

_BEST, _NEAR = 0.1, 0.08  # the share of the points near which more are tried, and how near, as a share of each range
PART = 10_000  # trials of a part at most
_FIRST = 64  # points of the sequence before that


@dataclass(frozen=True)
class Task:
    """A sweep recipe whose space is recorded, and the images that its trials train on."""

    recipe: str
    images: Callable[[Sweep], ImageDataset]
    val_images: int


def _all(sweep: Sweep) -> ImageDataset:
    return load_dataset(sweep.base.data)


def _small(sweep: Sweep, train: int, val: int) -> ImageDataset:
    """Returns the first of a shuffled train split, with a val split of its own. Test stays as it is, and is unused."""
    whole = load_dataset(sweep.base.data)
    labels = whole.train.labels
    indices = dict(zip(("train", "val"), _cut(labels, train, val), strict=True))
    parts = {name: LabelledImages(whole.train.images[chosen], labels[chosen]) for name, chosen in indices.items()}
    return ImageDataset(**parts, class_names=whole.class_names, test=whole.test)


def _cut(labels: np.ndarray, train: int, val: int) -> Sequence[np.ndarray]:
    return train_test_split(np.arange(len(labels)), train_size=train, test_size=val, random_state=0, stratify=labels)


TASKS = {
    "digits": Task("digits", _all, 144),
    "fashion_mnist": Task("fashion_mnist_optimizers", partial(_small, train=6000, val=2000), 2000),
}


class Trials:
    """Trains single trials of a task, with the numbers that a sweep's trial of that configuration has."""

    def __init__(self, task: Task, scratch: Path) -> None:
        prepare_process()
        self.sweep = load_sweep(task.recipe)
        self._store = Store.open(scratch)
        self._images = task.images(self.sweep)

    def train(self, config: ExperimentConfig) -> list[dict[str, float]]:
        """Returns the scores of every epoch, until the last or until the loss is not finite any more."""
        task = prepare(config, self._images, self._store)
        history: list[dict[str, float]] = []

        def keep(epoch: Epoch) -> None:
            history.append(dict(epoch.scores))

        end = EpochEnd([keep, check_finite], task.is_score)
        trainer = make_trainer(config, False, [end], **task.execute_steps([end]))
        with suppress(NonFiniteLossError):
            trainer.fit(task.module, task.data)
        return history


def record(task: Task, path: Path, trials: int, scratch: Path, part: int = 0) -> None:
    """Adds trials to a recording until it has `trials`. It can be stopped at any moment, and started again.

    `part`: of a table whose parts are recorded side by side, each in a file of its own.
    """
    trained, recording = Trials(task, scratch), Recording(path)
    begun, before = time.monotonic(), len(recording.rows)
    while len(recording.rows) < trials:
        number = part * PART + len(recording.rows)
        design, point, place = _next(recording.rows, number, len(trained.sweep.space.parameters))
        place = [round(coordinate, 6) for coordinate in place]  # as it is recorded
        row = trained_row(trained, number, design, point, place, trained.sweep.seed("table", number))
        recording.add(row)
        done = len(recording.rows)
        rate = (done - before) / (time.monotonic() - begun)
        told = f"{row.accuracy[-1]:.4f} after {len(row.accuracy)} epochs, {row.seconds:.1f} s, {design}"
        print(f"{done}/{trials}: {told}; {(trials - done) / rate / 60:.0f} min left", flush=True)


def trained_row(trials: Trials, number: int, design: str, point: int, place: list[float], seed: int) -> Row:
    """Trains one trial; `place` is its point in the unit cube."""
    params = trials.sweep.space.at(place)
    start = time.perf_counter()
    history = trials.train(trials.sweep.trial_config(params, seed))
    return Row(
        trial=number,
        design=design,
        point=point,
        place=place,
        params=params,
        seed=seed,
        accuracy=[round(scores["val/accuracy"], 6) for scores in history],
        loss=[round(scores["val/loss"], 6) if np.isfinite(scores["val/loss"]) else None for scores in history],
        seconds=round(time.perf_counter() - start, 3),
    )


def _next(rows: Sequence[Row], number: int, dimensions: int) -> tuple[str, int, list[float]]:
    """Returns what the next trial tries: of which design, the trial that first had the point, and the point.

    Of four trials, two take the next points of a scrambled Sobol sequence, one a point near one of the best tenth, and
    one an earlier point with another seed: by turns any point, and one of the best tenth.
    """
    count, random = len(rows), np.random.default_rng(number)
    firsts = [row for row in rows if row.design != "again"]
    if count >= _FIRST and count % 4 >= 2:
        best = sorted(firsts, key=lambda row: -row.accuracy[-1])[: max(1, round(_BEST * len(firsts)))]
        among = firsts if count % 8 == 3 else best
        chosen = among[random.integers(len(among))]
        if count % 4 == 3:
            return "again", chosen.trial, chosen.place
        moved = np.array(chosen.place) + _NEAR * random.standard_normal(dimensions)
        inside = np.abs(moved)  # reflected at the edges
        inside = np.where(inside >= 1, 2 - inside, inside)
        return "near", number, np.clip(inside, 0.0, LAST).tolist()
    index = sum(row.design == "sobol" for row in rows)
    sequence = qmc.Sobol(dimensions, rng=number // PART)
    if index:
        sequence.fast_forward(index)
    return "sobol", number, np.minimum(sequence.random(1)[0], LAST).tolist()
