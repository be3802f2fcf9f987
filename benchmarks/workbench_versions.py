"""The workbench on the same job: a whole tracked run, the same without tracking, and a bare loop over its step."""

from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from benchmarks.plain_trainer import fit_and_test
from experiments import ExperimentConfig, Store, runner
from experiments.training.epochs import Epoch
from lightning_modules import ImageClassifier, ImageDataModule


def log_many_metrics(epoch: Epoch) -> None:
    """An observer that logs 1,000 metrics of its own."""
    epoch.module.logger.log_metrics({f"extra/{i:04d}": float(i) for i in range(1000)})


def tracked(config: ExperimentConfig, folder: Path) -> float:
    """One whole tracked run, as in `workbench train`."""
    return runner.run(config, store=Store.open(folder)).metrics["test/accuracy"]


def tracked_many_metrics(config: ExperimentConfig, folder: Path) -> float:
    """The same with 1,000 more metrics per epoch."""
    return runner.run(config, store=Store.open(folder), observers=[log_many_metrics]).metrics["test/accuracy"]


def tracked_exact(config: ExperimentConfig, folder: Path) -> float:
    """The same with `trainer.exact`: numbers that do not depend on the number of threads."""
    return tracked(config.with_overrides({"trainer.exact": True}), folder)


def tracked_augmented(config: ExperimentConfig, folder: Path) -> float:
    """The same with all augmentations."""
    every = {"shift": 2, "horizontal_flip": True, "rotation": 10.0, "erasing": 0.5, "noise": 10.0}
    return tracked(config.with_overrides({f"data.augmentation.{name}": value for name, value in every.items()}), folder)


_LARGE_BATCH = {"data.batch_size": 512}  # gradients are exchanged once a step


def tracked_large_batch(config: ExperimentConfig, folder: Path) -> float:
    """A whole tracked run with batches of 512 images."""
    return tracked(config.with_overrides(_LARGE_BATCH), folder)


def two_devices(config: ExperimentConfig, folder: Path) -> float:
    """The same by two processes on the CPU."""
    return tracked(config.with_overrides({**_LARGE_BATCH, "trainer.devices": 2}), folder)


def untracked(config: ExperimentConfig, _: Path) -> float:
    """The same module, data and execution of steps in a plain Trainer that logs and keeps nothing."""
    data, classifier = _build(config)
    data.steps_per_execution = 64  # what `trainer.steps_per_execution: auto` chooses for this network
    classifier.train_in_chunks(None)
    return fit_and_test(classifier, data, config.trainer.max_epochs)


def bare_loop(config: ExperimentConfig, _: Path) -> float:
    """The same network, batches and optimizer in a hand-written loop."""
    data, classifier = _build(config)
    network, optimizer = classifier.network, config.optimizer.build(classifier.network)
    train, val = data.train_dataloader(), data.val_dataloader()
    for _epoch in range(config.trainer.max_epochs):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        _accuracy(network, val)
    return _accuracy(network, data.test_dataloader())


def _accuracy(network: torch.nn.Module, batches: object) -> float:
    network.eval()
    with torch.no_grad():
        hits = torch.cat([network(images).argmax(dim=1) == labels for images, labels in batches])  # type: ignore[attr-defined]
    return float(hits.double().mean())


def _build(config: ExperimentConfig) -> tuple[ImageDataModule, ImageClassifier]:
    data = ImageDataModule(config.data, seed=config.seed)
    data.setup()
    pl.seed_everything(config.seed, verbose=False)
    network = config.model.build(data.image_shape, data.num_classes)
    return data, ImageClassifier(network, optimizer=config.optimizer)
