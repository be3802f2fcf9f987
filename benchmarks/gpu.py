"""Training on a GPU, compared with the textbook loop, within a budget of time.

The rows of steps are for GPU machines with few packages: they need what `lightning_modules` needs. That of a whole run
needs what `experiments` needs, too, which is imported once the others have been measured.
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks import textbook_pytorch
from benchmarks.comparisons import GpuCase
from benchmarks.data import FILE, tensors
from benchmarks.pairs import summary
from benchmarks.plain_trainer import fit_and_test
from benchmarks.processes import Result
from benchmarks.unfinished import Unfinished
from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, ModelConfig
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.base import LabelledImages

_STEPS = 512  # in one execution
_TRIED = 8  # batches of a training that is not counted
_FIRST_RUN = 1_000  # images of a run that is not counted
_NEEDED = ("mlflow", "experiments")  # by a whole run


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is measured. `ends`: when, by time.monotonic, no further pair may be begun; each row has one, though."""

    device: str
    images: int
    epochs: int
    run_images: int
    run_epochs: int
    pairs: int
    ends: float
    results: Path


def measure(budget: Budget, cases: Sequence[GpuCase]) -> Iterator[dict[str, Any]]:
    """Yields the row of a case after each of its pairs, from all that have been measured."""
    with tempfile.TemporaryDirectory() as scratch:
        rounds = list(_rounds(budget, cases, Path(scratch)))
        while due := [each for each in rounds if each.done < budget.pairs and not each.is_late]:
            for each in due:
                if not each.is_late:
                    yield from each.measure()
    for each in rounds:
        each.forget()


@dataclass
class _Rounds:
    """Cases against one measurement of the textbook loop in each round."""

    budget: Budget
    cases: dict[GpuCase, Callable[[], Result]]
    theirs: Callable[[], Result]
    warm_up: Callable[[], object]
    row: dict[str, Any]
    images: int  # that are trained in the seconds of a result
    seconds: float = field(default=0.0, init=False)  # that a round takes
    is_warm: bool = field(default=False, init=False)

    @property
    def done(self) -> int:
        return min(len(self._kept(case).pairs) for case in self.cases)

    @property
    def is_late(self) -> bool:
        return self.done > 0 and time.monotonic() + self.seconds > self.budget.ends

    def measure(self) -> Iterator[dict[str, Any]]:
        """Measures one round, theirs first and last in turn."""
        if not self.is_warm:
            self.warm_up()
            self.is_warm = True
        start = time.monotonic()
        is_first = self.done % 2 == 0
        theirs = self.theirs() if is_first else None
        ours = {case: measure() for case, measure in self.cases.items()}
        theirs = theirs or self.theirs()
        self.seconds = time.monotonic() - start
        for case, result in ours.items():
            kept = self._kept(case)
            kept.add((result, theirs))
            yield self._row(case, kept)

    def _row(self, case: GpuCase, kept: Unfinished) -> dict[str, Any]:
        ours = [result for result, _ in kept.pairs]
        row = {"name": case.name, "goal": case.goal} | self.row | summary(kept.pairs)
        firsts = [result["first"] for result in ours if "first" in result]
        row |= {"met": case.goal is None or row["ratio"] >= case.goal, "uncaptured": ours[-1].get("uncaptured", "")}
        row |= {"first": statistics.median(firsts) if firsts else None}
        return row | {"images_per_second": [self.images / seconds for seconds in row["seconds"]]}

    def _kept(self, case: GpuCase) -> Unfinished:
        size = f"{self.row['images']} × {self.row['epochs']}"
        return Unfinished(self.budget.results, f"{case.name}: {size}, {self.row['source']}, {self.row['device']}")

    def forget(self) -> None:
        for case in self.cases:
            self._kept(case).forget()


def _rounds(budget: Budget, cases: Sequence[GpuCase], scratch: Path) -> Iterator[_Rounds]:
    dataset, source = _dataset(budget.images)
    named = {"device": _device_name(budget.device), "source": source}
    for size in sorted({case.batch_size for case in cases if case.way != "run"}):
        data = _data(size, dataset)
        splits = _tensors(data)
        images = len(splits["train"][1])
        ours = {case: _ours(case, dataset, budget) for case in cases if case.batch_size == size and case.way != "run"}
        few = _few(dataset, size * _TRIED)
        yield _Rounds(
            budget,
            ours,
            _theirs(size, splits, budget),
            _all(*(_ours(case, few, budget) for case in ours), _theirs(size, _tensors(_data(size, few)), budget)),
            named | {"images": images, "epochs": budget.epochs},
            images,
        )
    for case in cases:
        if case.way == "run":
            if missing := [name for name in _NEEDED if not _is_there(name)]:
                print(f"{case.name}: not measured, needs {missing[0]}", file=sys.stderr)
                continue
            whole, source = _dataset(budget.run_images)
            yield _whole_runs(case, whole, budget, scratch, named | {"source": source})


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:
        return False


def _all(*measures: Callable[[], object]) -> Callable[[], None]:
    def measure() -> None:
        for each in measures:
            each()

    return measure


class _Clock(pl.Callback):
    """Notes when the training of each epoch begins and ends, once the GPU has done its part."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._times: list[float] = []
        self.why_not: str | None = None

    def tick(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()
        self._times.append(time.perf_counter())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tick()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tick()
        assert isinstance(pl_module, ImageClassifier)
        self.why_not = pl_module.why_not_captured

    @property
    def epochs(self) -> list[float]:
        """The seconds of each epoch."""
        return [end - start for start, end in zip(self._times[::2], self._times[1::2], strict=True)]


def _ours(case: GpuCase, dataset: ImageDataset, budget: Budget) -> Callable[[], Result]:
    def measure() -> Result:
        data = _data(case.batch_size, dataset)
        classifier = ImageClassifier(ModelConfig().build(data.image_shape, data.num_classes))
        if case.way != "single":
            data.steps_per_execution, data.in_stretches = _STEPS, True
            # On a CPU the stand-in of a captured step gains nothing from being compiled, for many seconds.
            classifier.train_captured(None, compiles=case.way == "compiled" and budget.device == "cuda")
        clock = _Clock(budget.device)
        return _timed(
            clock, lambda: fit_and_test(classifier, data, budget.epochs, accelerator=budget.device, callbacks=[clock])
        )

    return measure


def _theirs(size: int, splits: dict[str, tuple[Tensor, Tensor]], budget: Budget) -> Callable[[], Result]:
    def measure() -> Result:
        clock = _Clock(budget.device)
        options = {"batch_size": size, "device": budget.device, "clock": clock.tick}
        return _timed(clock, lambda: textbook_pytorch.train(splits, budget.epochs, **options))  # type: ignore[arg-type]

    return measure


def _timed(clock: _Clock, train: Callable[[], float]) -> Result:
    """Trains; the seconds are those of an epoch, the median of all but the first."""
    _reset_peak()
    train()
    first, *later = clock.epochs
    result = {"seconds": statistics.median(later or [first]), "first": first, "peak_mb": _peak_mb()}
    return result | ({"uncaptured": clock.why_not} if clock.why_not else {})


def _whole_runs(case: GpuCase, dataset: ImageDataset, budget: Budget, scratch: Path, row: dict[str, Any]) -> _Rounds:
    data = _data(case.batch_size, dataset)
    folders = {"whole": scratch / "whole", "few": scratch / "few"}
    for name, folder in folders.items():
        folder.mkdir()
        _write(data, folder, most=_FIRST_RUN if name == "few" else None)
    images = len(data.splits["train"])

    def ours(folder: Path, epochs: int) -> Result:
        from experiments import Store, load_config, runner

        fields = {"data.source": "arrays", "data.path": str(folder / FILE), "data.batch_size": case.batch_size}
        fields |= {"trainer.max_epochs": epochs, "trainer.accelerator": budget.device}
        config = load_config("fashion_mnist", fields)
        start = time.perf_counter()
        done = runner.run(config, store=Store.open(scratch / "store"), progress=False)
        seconds = time.perf_counter() - start
        assert done.outcome == "finished", done.error
        return {"seconds": seconds, "peak_mb": _peak_mb()}

    def theirs(folder: Path, epochs: int) -> Result:
        start = time.perf_counter()
        textbook_pytorch.train(tensors(folder), epochs, batch_size=case.batch_size, device=budget.device)
        return {"seconds": time.perf_counter() - start, "peak_mb": _peak_mb()}

    def warm_up() -> None:
        for name in ("experiments", "mlflow.store.tracking.sqlalchemy_store", "torch.export._trace"):
            import_module(name)  # imports are not timed
        ours(folders["few"], 1)
        theirs(folders["few"], 1)

    def alone(measure: Callable[[Path, int], Result]) -> Callable[[], Result]:
        def whole() -> Result:
            _reset_peak()
            return measure(folders["whole"], budget.run_epochs)

        return whole

    size = {"images": images, "epochs": budget.run_epochs}
    return _Rounds(budget, {case: alone(ours)}, alone(theirs), warm_up, row | size, images * budget.run_epochs)


def _write(data: ImageDataModule, folder: Path, *, most: int | None) -> None:
    """Writes the splits as benchmarks/data.py does, of each the first `most` images."""
    arrays = {}
    for name, subset in data.splits.items():
        chosen = subset.indices[:most]
        arrays |= {f"x_{name}": subset.images[chosen].squeeze(-1), f"y_{name}": subset.labels[chosen]}
    np.savez(folder / FILE, **arrays)


def _reset_peak() -> None:
    gc.collect()  # what the previous training has left on the GPU
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_mb() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0


def _data(batch_size: int, dataset: ImageDataset) -> ImageDataModule:
    data = ImageDataModule(DataConfig(source="fashion_mnist", batch_size=batch_size), dataset=dataset)
    data.setup()
    return data


def _dataset(images: int) -> tuple[ImageDataset, str]:
    """Fashion-MNIST if WORKBENCH_DATA has it, else random images of its shape; and which of the two it is.

    After a tenth is set aside for validation, `images` are left for training. The test set is a sixth as large.
    """
    count, test_count = round(images / 0.9), round(images / 0.9 / 6)
    folder = os.environ.get("WORKBENCH_DATA")
    if folder and (Path(folder) / "fashion_mnist").is_dir() and find_spec("pooch"):  # it checks the files
        whole, source = load_dataset(DataConfig(source="fashion_mnist")), "Fashion-MNIST"
        assert whole.test is not None
        parts = [(whole.train.images, whole.train.labels), (whole.test.images, whole.test.labels)]
    else:
        draw, source = np.random.default_rng(0), "random"
        parts = [
            (draw.integers(0, 256, (size, 28, 28, 1), np.uint8), draw.integers(0, 10, size))
            for size in (count, test_count)
        ]
    return _first(parts, count, test_count), source


def _few(dataset: ImageDataset, images: int) -> ImageDataset:
    """Returns the first images of a data set."""
    assert dataset.test is not None
    parts = [(each.images, each.labels) for each in (dataset.train, dataset.test)]
    return _first(parts, round(images / 0.9), round(images / 0.9 / 6))


def _first(parts: Sequence[tuple[Any, Any]], count: int, test_count: int) -> ImageDataset:
    train, test = (LabelledImages(x[:size], y[:size]) for (x, y), size in zip(parts, (count, test_count), strict=True))
    return ImageDataset(train=train, test=test, class_names=tuple("0123456789"))


def _tensors(data: ImageDataModule) -> dict[str, tuple[Tensor, Tensor]]:
    """The same splits for the textbook version, on the host: normalized float images (N, 1, 28, 28) and labels."""
    return {
        name: (
            data.normalization(torch.from_numpy(subset.images[subset.indices]).permute(0, 3, 1, 2)).contiguous(),
            torch.from_numpy(subset.targets),
        )
        for name, subset in data.splits.items()
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device
